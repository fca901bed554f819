"""Who may call: what is refused, what is remembered, and how what ends is heard of everywhere."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kuueri_grpc.domain.access import Access, Scope
from kuueri_grpc.domain.errors import StoreUnavailable, Unauthenticated
from kuueri_grpc.engine import authentication, token_format
from kuueri_grpc.engine.authentication import Authenticator
from kuueri_grpc.engine.projects import Projects, Registered
from kuueri_grpc.ports import Credential, Disconnected, Reconnected
from kuueri_grpc.store import keys
from kuueri_grpc.store.projects import RedisProjectStore
from tests.engine.credentials import Counting, with_another_secret
from tests.engine.parts import Instance, process, soon
from tests.store.ports import Ports


async def refused(authenticator: Authenticator, token: str) -> str:
    with pytest.raises(Unauthenticated) as refusal:
        await authenticator.authenticate(token)
    return str(refusal.value)


class TestAuthenticate:
    @pytest.mark.parametrize(
        "token",
        [
            "",
            "kq",
            "kq_",
            "bearer",
            "kq_a_b_c",
            "kq_" + "a" * 20 + "_" + "b" * 43,
            "xx_" + "a" * 20 + "_" + "b" * 43 + "_cccccc",
            "kq_" + "a" * 19 + "_" + "b" * 43 + "_cccccc",
            "kq_" + "a" * 20 + "_" + "b" * 44 + "_cccccc",
            "kq_" + "a" * 20 + "_" + "b" * 43 + "_cccccc_more",
            "_" * 80,
        ],
    )
    async def test_malformed(self, authenticator: Authenticator, token: str) -> None:
        assert "malformed" in await refused(authenticator, token)

    @pytest.mark.parametrize("place", [5, 30, 60, -1, -7])
    async def test_mistyped(self, authenticator: Authenticator, registered: Registered, place: int) -> None:
        token = list(registered.token)
        if token[place] == "_":
            place += 1
        token[place] = "b" if token[place] == "a" else "a"

        assert "mistyped" in await refused(authenticator, "".join(token))

    @pytest.mark.parametrize("text", ["ü", "€", "\x00", "🂡"])
    async def test_what_is_no_ascii(
        self, authenticator: Authenticator, registered: Registered, text: str
    ) -> None:
        await refused(authenticator, registered.token[:-1] + text)

    async def test_a_token_that_was_never_given(self, authenticator: Authenticator) -> None:
        """It is well-formed: whoever knows the form can make one up."""
        _, token = token_format.new_token("abcdefgh12345678")

        assert "not valid" in await refused(authenticator, token)

    async def test_another_secret_for_a_known_key(
        self, authenticator: Authenticator, registered: Registered
    ) -> None:
        assert "not valid" in await refused(authenticator, with_another_secret(registered.token))
        access = await authenticator.authenticate(registered.token)
        assert access.project_id == registered.project.project_id

    async def test_the_key_of_another_project(
        self, projects: Projects, authenticator: Authenticator, registered: Registered
    ) -> None:
        other = await projects.register("other@example.com")

        for one in (registered, other):
            access = await authenticator.authenticate(one.token)
            assert access.project_id == one.project.project_id
        # A key id that begins with another project's id is looked for there, and not found.
        key_id = other.project.project_id + registered.token.split("_")[1][-4:]
        body = f"kq_{key_id}_{registered.token.split('_')[2]}"
        assert "not valid" in await refused(authenticator, f"{body}_{token_format.checksum(body)}")


class TestOnePath:
    """An unknown key id and a wrong secret cost the same work, and are told apart by nobody."""

    async def test_the_same_steps_and_the_same_words(
        self, ports: Ports, counting: Counting, registered: Registered, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authenticator = Authenticator(counting, ports.clock)
        await authenticator.authenticate(registered.token)  # and its credential is remembered
        compared: list[tuple[int, int]] = []
        compare = hmac.compare_digest

        def noting(kept: bytes, given: bytes) -> bool:
            compared.append((len(kept), len(given)))
            return compare(kept, given)

        monkeypatch.setattr(hmac, "compare_digest", noting)
        project_id = registered.project.project_id
        unknown_key, unknown_project = (
            token_format.new_token(project)[1] for project in (project_id, "abcdefgh12345678")
        )
        paths = []
        for token in (with_another_secret(registered.token), unknown_key, unknown_project):
            compared.clear()
            counting.reads = 0
            words = await refused(authenticator, token)
            paths.append((words, counting.reads, list(compared)))

        # The checksum of the token, one reading, the digest of the token.
        assert paths[0][1:] == (1, [(6, 6), (32, 32)])
        assert paths[0] == paths[1] == paths[2]

    async def test_a_digest_that_nobody_has_stands_in(
        self, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Were it known, the token that it is the digest of would still open nothing."""
        _, token = token_format.new_token("abcdefgh12345678")
        monkeypatch.setattr(authentication, "_NOBODY", token_format.digest(token))

        assert "not valid" in await refused(authenticator, token)


class TestRemembering:
    async def test_a_credential_is_believed_without_asking(
        self, ports: Ports, counting: Counting, registered: Registered
    ) -> None:
        authenticator = Authenticator(counting, ports.clock)
        for _ in range(3):
            access = await authenticator.authenticate(registered.token)
            assert access.project_id == registered.project.project_id

        assert counting.reads == 1

    async def test_for_a_while(
        self, ports: Ports, counting: Counting, registered: Registered, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(authentication, "_REMEMBERED_S", -1.0)
        authenticator = Authenticator(counting, ports.clock)
        for _ in range(3):
            await authenticator.authenticate(registered.token)

        assert counting.reads == 3

    @pytest.mark.one_server("renames a key, to another slot")
    async def test_what_is_unknown_is_not_remembered(
        self, ports: Ports, authenticator: Authenticator, registered: Registered
    ) -> None:
        """A token that is good a moment later is not refused for it."""
        key = next(iter(ports.raw().names_with(f":credentials:{registered.project.project_id}")))[1]
        await ports.client.rename(key, f"{key}:elsewhere")
        await refused(authenticator, registered.token)
        await ports.client.rename(f"{key}:elsewhere", key)

        access = await authenticator.authenticate(registered.token)
        assert access.project_id == registered.project.project_id

    async def test_it_is_bounded(
        self, projects: Projects, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(authentication, "_MOST_REMEMBERED", 3)
        for n in range(10):
            await authenticator.authenticate((await projects.register(f"{n}@example.com")).token)

        assert len(authenticator._remembered) <= 3

    async def test_the_one_that_was_read_longest_ago_makes_room(
        self, ports: Ports, projects: Projects, counting: Counting, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One more than there is room for does not cost the others their place."""
        monkeypatch.setattr(authentication, "_MOST_REMEMBERED", 3)
        authenticator = Authenticator(counting, ports.clock)
        tokens = [(await projects.register(f"{n}@example.com")).token for n in range(4)]
        for token in tokens:
            await authenticator.authenticate(token)
        counting.reads = 0

        for token in (tokens[1], tokens[2], tokens[3]):
            await authenticator.authenticate(token)
        assert counting.reads == 0
        await authenticator.authenticate(tokens[0])
        assert counting.reads == 1

    async def test_what_was_read_before_the_announcement_is_not_kept_after_it(
        self, ports: Ports, registered: Registered
    ) -> None:
        """The answer of the store and the announcement come over two connections, in either order."""
        project_id = registered.project.project_id

        class Overtaken(RedisProjectStore):
            async def credential(self, project_id: str, key_id: str) -> Credential | None:
                kept = await super().credential(project_id, key_id)
                await ports.client.delete(f"{{{self._partition(project_id)}}}:credentials:{project_id}")
                authenticator.forget(project_id)
                return kept

        store = Overtaken(*ports.project_parts)
        authenticator = Authenticator(store, ports.clock)
        assert (await authenticator.authenticate(registered.token)).project_id == project_id

        assert "not valid" in await refused(authenticator, registered.token)


@pytest.fixture
async def other(ports: Ports) -> AsyncIterator[Instance]:
    """Another server process, all of whose loops run."""
    async with process(ports, "there") as other:
        yield other


@asynccontextmanager
async def heard(instance: Instance, what: str = "forget") -> AsyncIterator[None]:
    """Leave the block when a process has heard an announcement."""
    told, authenticator = asyncio.Event(), instance.authenticator
    method = getattr(authenticator, what)

    def noting(*arguments: str) -> None:
        method(*arguments)
        told.set()

    setattr(authenticator, what, noting)
    yield
    await soon(told.wait())
    setattr(authenticator, what, method)


@pytest.mark.one_server("cuts the one connection of a server; see tests/cluster/test_signals.py")
class TestAnnounced:
    @pytest.fixture(autouse=True)
    def _for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is forgotten by itself."""
        monkeypatch.setattr(authentication, "_REMEMBERED_S", 3_600.0)

    async def test_a_rotation_reaches_other_processes(
        self, projects: Projects, registered: Registered, other: Instance
    ) -> None:
        caller = await other.authenticator.authenticate(registered.token)
        async with heard(other):
            await projects.rotate_token(caller, 0)

        assert "not valid" in await refused(other.authenticator, registered.token)

    async def test_a_revocation_does(
        self, projects: Projects, registered: Registered, other: Instance
    ) -> None:
        project_id = registered.project.project_id
        made = await projects.create_token(project_id, Scope.READ, "", None)
        await other.authenticator.authenticate(made.token)
        async with heard(other):
            await projects.revoke_token(project_id, made.credential.key_id)

        assert "revoked" in await refused(other.authenticator, made.token)

    async def test_a_deletion_does(self, projects: Projects, registered: Registered, other: Instance) -> None:
        await other.authenticator.authenticate(registered.token)
        async with heard(other):
            await projects.delete(registered.project.project_id)

        assert "deleted" in await refused(other.authenticator, registered.token)

    async def test_a_project_of_which_nothing_was_announced_is_still_believed(
        self, projects: Projects, registered: Registered, other: Instance
    ) -> None:
        bystander = await projects.register("bystander@example.com")
        for one in (registered, bystander):
            await other.authenticator.authenticate(one.token)
        async with heard(other):
            await projects.delete(registered.project.project_id)

        assert token_format.digest(bystander.token) in other.authenticator._remembered

    async def test_without_a_connection_for_signals_the_store_is_asked_each_time(
        self, ports: Ports, projects: Projects, alone: Instance, registered: Registered
    ) -> None:
        authenticator = alone.authenticator
        caller = await authenticator.authenticate(registered.token)
        alone.switchboard._hand_on(Disconnected("cut"))
        await authenticator.authenticate(registered.token)
        assert not authenticator._remembered
        elsewhere = Projects(ports.projects, Authenticator(ports.projects, ports.clock), alone.revocations)
        await elsewhere.rotate_token(caller, 0)

        assert "not valid" in await refused(authenticator, registered.token)

    async def test_with_a_new_connection_all_is_forgotten(
        self, ports: Ports, alone: Instance, registered: Registered
    ) -> None:
        authenticator = alone.authenticator
        caller = await authenticator.authenticate(registered.token)
        elsewhere = Projects(ports.projects, Authenticator(ports.projects, ports.clock), alone.revocations)
        await elsewhere.rotate_token(caller, 0)
        assert await authenticator.authenticate(registered.token) == caller  # nobody told

        alone.switchboard._hand_on(Reconnected())

        assert "not valid" in await refused(authenticator, registered.token)

    async def test_a_connection_that_was_cut_is_such_a_one(
        self, ports: Ports, registered: Registered, other: Instance
    ) -> None:
        await other.authenticator.authenticate(registered.token)
        async with heard(other, "signals_lost"), heard(other, "signals_back"):
            await ports.client.client_kill_filter(_type="pubsub")

        assert not other.authenticator._remembered


@asynccontextmanager
async def streaming(authenticator: Authenticator, access: Access) -> AsyncIterator[None]:
    with authenticator.streams.stream(access) as stream:
        await authenticator.hold(stream)
        yield


async def held_open(authenticator: Authenticator, token: str, opened: asyncio.Event) -> None:
    async with streaming(authenticator, await authenticator.authenticate(token)):
        opened.set()
        await asyncio.Event().wait()


async def open_stream(authenticator: Authenticator, token: str) -> asyncio.Task[None]:
    opened = asyncio.Event()
    stream = asyncio.create_task(held_open(authenticator, token, opened))
    await soon(opened.wait())
    return stream


class TestStreams:
    async def test_end_with_the_token_that_opened_them(
        self, projects: Projects, registered: Registered, other: Instance
    ) -> None:
        project_id = registered.project.project_id
        reader = await projects.create_token(project_id, Scope.READ, "", None)
        streams = [await open_stream(other.authenticator, reader.token) for _ in range(3)]
        stays = await open_stream(other.authenticator, registered.token)

        await projects.revoke_token(project_id, reader.credential.key_id)

        for stream in streams:
            with pytest.raises(Unauthenticated, match="opened this stream"):
                await soon(stream)
        assert not stays.done()
        await projects.delete(project_id)
        with pytest.raises(Unauthenticated):
            await soon(stays)
        assert not other.authenticator.streams

    async def test_end_when_its_grace_time_does(
        self, ports: Ports, projects: Projects, registered: Registered, other: Instance
    ) -> None:
        stream = await open_stream(other.authenticator, registered.token)
        made = await projects.rotate_token(await other.authenticator.authenticate(registered.token), 300)

        with pytest.raises(Unauthenticated):
            await soon(stream)
        assert await ports.now_ms() >= made.old_expire_time_ms - 50  # the clocks of a process are rounded

    async def test_end_when_it_ended_unheard(
        self, ports: Ports, projects: Projects, alone: Instance, registered: Registered
    ) -> None:
        stream = await open_stream(alone.authenticator, registered.token)
        elsewhere = Projects(ports.projects, Authenticator(ports.projects, ports.clock), alone.revocations)
        await elsewhere.delete(registered.project.project_id)
        assert not stream.done()

        alone.switchboard._hand_on(Reconnected())

        with pytest.raises(Unauthenticated):
            await soon(stream)

    async def test_end_when_it_cannot_be_read_any_more(
        self, ports: Ports, alone: Instance, registered: Registered, caplog: pytest.LogCaptureFixture
    ) -> None:
        streams = [await open_stream(alone.authenticator, registered.token) for _ in range(2)]
        project_id = registered.project.project_id
        credentials = keys.credentials(keys.partition_of(project_id, ports.settings.partitions), project_id)
        (key_id,) = await ports.client.hkeys(credentials)
        await ports.client.hset(credentials, key_id, "damaged")

        alone.authenticator.forget(project_id)

        for stream in streams:
            with pytest.raises(StoreUnavailable, match="opened this stream"):
                await soon(stream)
        assert not alone.authenticator.streams
        (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert (vars(record)["event"], vars(record)["project"]) == ("credential_unreadable", project_id)

    async def test_do_not_begin_after_it(
        self, ports: Ports, authenticator: Authenticator, alone: Instance, registered: Registered
    ) -> None:
        access = await authenticator.authenticate(registered.token)
        elsewhere = Projects(ports.projects, Authenticator(ports.projects, ports.clock), alone.revocations)
        await elsewhere.rotate_token(access, 0)

        with pytest.raises(Unauthenticated):
            async with streaming(authenticator, access):
                await asyncio.Event().wait()

    async def test_what_they_raise_themselves_comes_through(
        self, authenticator: Authenticator, registered: Registered
    ) -> None:
        access = await authenticator.authenticate(registered.token)
        for error in (TimeoutError("of their own"), StoreUnavailable("not now")):
            with pytest.raises(type(error), match=str(error)):
                async with streaming(authenticator, access):
                    raise error
        assert not authenticator.streams
