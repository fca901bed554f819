"""Who may call: registration, tokens and their rotation."""

import hashlib

import pytest

from kuueri_grpc.domain.errors import EmailExists, ProjectNotFound, Unauthenticated
from kuueri_grpc.engine import projects as projects_module
from kuueri_grpc.engine.projects import Projects, Registered
from tests.store.ports import HOUR_MS, QUEUE_LIMIT, Ports, spec


@pytest.fixture
def projects(ports: Ports) -> Projects:
    return Projects(ports.projects, ports.clock)


@pytest.fixture
async def registered(projects: Projects) -> Registered:
    return await projects.register("me@example.com")


def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the time has passed for which a credential is believed."""
    monkeypatch.setattr(projects_module, "_CACHE_S", -1.0)


async def refused(projects: Projects, token: str) -> str:
    with pytest.raises(Unauthenticated) as refusal:
        await projects.authenticate(token)
    return str(refusal.value)


class TestRegister:
    async def test_what_is_given_once(self, projects: Projects, registered: Registered) -> None:
        project = registered.project
        assert project.email == "me@example.com"
        assert (project.task_in_queue, project.task_in_queue_limit) == (0, QUEUE_LIMIT)
        assert await projects.get(project.project_id) == project
        assert await projects.authenticate(registered.token) == project.project_id
        assert registered.signing_secret.startswith("whsec_")

    async def test_the_secret_signs(self, ports: Ports, registered: Registered) -> None:
        project_id = registered.project.project_id
        await ports.subscribe(spec("a"), project_id=project_id)
        (claim,) = await ports.claim(project_id=project_id)

        assert claim.signing_secrets == (registered.signing_secret,)

    async def test_an_address_twice(self, projects: Projects, registered: Registered) -> None:
        with pytest.raises(EmailExists):
            await projects.register("ME@example.com")

        assert await projects.authenticate(registered.token) == registered.project.project_id

    async def test_the_token_is_nowhere_in_the_store(self, ports: Ports, registered: Registered) -> None:
        secret = registered.token.split("_")[2]

        assert not ports.raw().names_with(secret)
        assert ports.raw().names_with(hashlib.sha256(registered.token.encode()).hexdigest())

    async def test_no_two_are_alike(self, projects: Projects) -> None:
        made = [await projects.register(f"{n}@example.com") for n in range(20)]

        for part in ("token", "signing_secret"):
            assert len({getattr(one, part) for one in made}) == 20
        assert len({one.project.project_id for one in made}) == 20


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
    async def test_malformed(self, projects: Projects, token: str) -> None:
        assert "malformed" in await refused(projects, token)

    @pytest.mark.parametrize("place", [5, 30, 60, -1, -7])
    async def test_mistyped(self, projects: Projects, registered: Registered, place: int) -> None:
        token = list(registered.token)
        if token[place] == "_":
            place += 1
        token[place] = "b" if token[place] == "a" else "a"

        assert "mistyped" in await refused(projects, "".join(token))

    @pytest.mark.parametrize("text", ["ü", "€", "\x00", "🂡"])
    async def test_what_is_no_ascii(self, projects: Projects, registered: Registered, text: str) -> None:
        await refused(projects, registered.token[:-1] + text)

    async def test_a_token_that_was_never_given(self, projects: Projects) -> None:
        """It is well-formed: whoever knows the form can make one up."""
        _, token = projects_module._new_token("abcdefgh12345678")

        assert "not valid" in await refused(projects, token)

    async def test_another_secret_for_a_known_key(self, projects: Projects, registered: Registered) -> None:
        key_id = registered.token.split("_")[1]
        body = f"kq_{key_id}_{'b' * 43}"
        token = f"{body}_{projects_module._checksum(body)}"

        assert "not valid" in await refused(projects, token)
        assert await projects.authenticate(registered.token) == registered.project.project_id

    async def test_the_key_of_another_project(self, projects: Projects, registered: Registered) -> None:
        other = await projects.register("other@example.com")

        assert await projects.authenticate(registered.token) == registered.project.project_id
        assert await projects.authenticate(other.token) == other.project.project_id
        # A key id that begins with another project's id is looked for there, and not found.
        key_id = other.project.project_id + registered.token.split("_")[1][-4:]
        body = f"kq_{key_id}_{registered.token.split('_')[2]}"
        assert "not valid" in await refused(projects, f"{body}_{projects_module._checksum(body)}")


class TestRotate:
    async def test_without_grace_the_former_ends_at_once_where_it_was_rotated(
        self, projects: Projects, registered: Registered
    ) -> None:
        project_id = registered.project.project_id
        await projects.authenticate(registered.token)  # and is believed for a while

        token = await projects.rotate_token(project_id, 0)

        assert await projects.authenticate(token) == project_id
        assert "not valid" in await refused(projects, registered.token)

    async def test_elsewhere_it_ends_when_it_is_asked_for_again(
        self, ports: Ports, projects: Projects, registered: Registered, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        elsewhere = Projects(ports.projects, ports.clock)
        await elsewhere.authenticate(registered.token)
        await projects.rotate_token(registered.project.project_id, 0)
        assert await elsewhere.authenticate(registered.token)

        no_cache(monkeypatch)
        later = Projects(ports.projects, ports.clock)

        assert "not valid" in await refused(later, registered.token)

    async def test_with_grace_both_are_good_until_it_ends(
        self, ports: Ports, projects: Projects, registered: Registered
    ) -> None:
        project_id = registered.project.project_id
        await ports.look()  # the clock of the process is the store's
        token = await projects.rotate_token(project_id, 1_000)
        assert await projects.authenticate(token) == project_id
        assert await projects.authenticate(registered.token) == project_id

        await ports.until(await ports.now_ms() + 1_001)
        await ports.look()

        assert "it was rotated" in await refused(projects, registered.token)
        assert await projects.authenticate(token) == project_id

    async def test_of_a_project_that_is_gone(self, projects: Projects) -> None:
        with pytest.raises(ProjectNotFound):
            await projects.rotate_token("nobody0000000000", 0)
        with pytest.raises(ProjectNotFound):
            await projects.rotate_signing_secret("nobody0000000000", 0)

    async def test_the_signing_secret(self, ports: Ports, projects: Projects, registered: Registered) -> None:
        project_id = registered.project.project_id
        secret = await projects.rotate_signing_secret(project_id, HOUR_MS)
        await ports.subscribe(spec("a"), project_id=project_id)
        (claim,) = await ports.claim(project_id=project_id)

        assert claim.signing_secrets == (secret, registered.signing_secret)


class TestCache:
    async def test_a_credential_is_believed_without_asking(
        self, ports: Ports, projects: Projects, registered: Registered
    ) -> None:
        await projects.authenticate(registered.token)
        await ports.client.flushall()

        assert await projects.authenticate(registered.token) == registered.project.project_id

    async def test_what_is_unknown_is_not_remembered(self, ports: Ports, registered: Registered) -> None:
        """A token that is good a moment later is not refused for it."""
        projects = Projects(ports.projects, ports.clock)
        key = next(iter(ports.raw().names_with(f":credentials:{registered.project.project_id}")))[1]
        await ports.client.rename(key, "elsewhere")
        await refused(projects, registered.token)
        await ports.client.rename("elsewhere", key)

        assert await projects.authenticate(registered.token) == registered.project.project_id

    async def test_it_is_bounded(
        self, projects: Projects, registered: Registered, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(projects_module, "_CACHE_SIZE", 3)
        for n in range(10):
            token = (await projects.register(f"{n}@example.com")).token
            await projects.authenticate(token)

        assert len(projects._cache) <= 3


async def test_the_epoch_is_the_store_s(ports: Ports, projects: Projects) -> None:
    kept = await ports.client.hget("kuueri:store", "epoch")
    assert isinstance(kept, bytes)
    assert await projects.epoch() == kept.decode()
