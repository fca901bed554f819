"""Projects and their tokens: made, rotated, revoked."""

import hashlib

import pytest

from kuueri_grpc.domain.access import Access, Scope
from kuueri_grpc.domain.errors import (
    EmailExists,
    LastFullToken,
    ProjectNotFound,
    TokenNotFound,
    TooManyTokens,
    Unauthenticated,
)
from kuueri_grpc.engine import token_format
from kuueri_grpc.engine.authentication import Authenticator
from kuueri_grpc.engine.projects import Projects, Registered
from kuueri_grpc.store.projects import MOST_CREDENTIALS
from tests.store.ports import HOUR_MS, QUEUE_LIMIT, Ports, spec

REQUEST_ID = "a-request-id-that-nobody-guesses"


async def refused(authenticator: Authenticator, token: str) -> str:
    with pytest.raises(Unauthenticated) as refusal:
        await authenticator.authenticate(token)
    return str(refusal.value)


class TestRegister:
    async def test_what_is_given_once(
        self, projects: Projects, authenticator: Authenticator, registered: Registered
    ) -> None:
        project = registered.project
        assert project.email == "me@example.com"
        assert (project.task_in_queue, project.task_in_queue_limit) == (0, QUEUE_LIMIT)
        assert await projects.get(project.project_id) == project
        access = await authenticator.authenticate(registered.token)
        assert (access.project_id, access.scope, access.ended) == (project.project_id, Scope.FULL, False)
        assert registered.signing_secret.startswith("whsec_")

    async def test_the_secret_signs(self, ports: Ports, registered: Registered) -> None:
        project_id = registered.project.project_id
        await ports.subscribe(spec("a"), project_id=project_id)
        (claim,) = await ports.claim(project_id=project_id)

        assert claim.signing_secrets == (registered.signing_secret,)

    async def test_an_address_twice(
        self, projects: Projects, authenticator: Authenticator, registered: Registered
    ) -> None:
        with pytest.raises(EmailExists):
            await projects.register("ME@example.com")

        access = await authenticator.authenticate(registered.token)
        assert access.project_id == registered.project.project_id

    async def test_the_token_is_nowhere_in_the_store(self, ports: Ports, registered: Registered) -> None:
        secret = registered.token.split("_")[2]

        assert not ports.raw().names_with(secret)
        assert ports.raw().names_with(hashlib.sha256(registered.token.encode()).hexdigest())

    async def test_no_two_are_alike(self, projects: Projects) -> None:
        made = [await projects.register(f"{n}@example.com") for n in range(20)]

        for part in ("token", "signing_secret"):
            assert len({getattr(one, part) for one in made}) == 20
        assert len({one.project.project_id for one in made}) == 20


class TestRotate:
    async def test_without_grace_the_former_ends_at_once_where_it_was_rotated(
        self, projects: Projects, authenticator: Authenticator, registered: Registered
    ) -> None:
        caller = await authenticator.authenticate(registered.token)  # and is believed for a while

        token = (await projects.rotate_token(caller, 0)).token

        assert (await authenticator.authenticate(token)).project_id == caller.project_id
        assert "not valid" in await refused(authenticator, registered.token)

    async def test_with_grace_both_are_good_until_it_ends(
        self, ports: Ports, projects: Projects, authenticator: Authenticator, registered: Registered
    ) -> None:
        caller = await authenticator.authenticate(registered.token)
        await ports.look()  # the clock of the process is the store's
        made = await projects.rotate_token(caller, 1_000)
        assert (await authenticator.authenticate(made.token)).project_id == caller.project_id
        assert await authenticator.authenticate(registered.token) == caller

        await ports.until(made.old_expire_time_ms + 1)
        await ports.look()

        assert "it was rotated" in await refused(authenticator, registered.token)
        assert (await authenticator.authenticate(made.token)).project_id == caller.project_id

    async def test_tokens_of_other_scopes_stay(
        self, projects: Projects, authenticator: Authenticator, registered: Registered
    ) -> None:
        caller = await authenticator.authenticate(registered.token)
        full = await projects.create_token(caller.project_id, Scope.FULL, "", None)
        reader = await projects.create_token(caller.project_id, Scope.READ, "", None)

        await projects.rotate_token(caller, 0)

        assert "not valid" in await refused(authenticator, full.token)
        assert (await authenticator.authenticate(reader.token)).scope is Scope.READ

    async def test_of_a_project_that_is_gone(self, projects: Projects) -> None:
        nobody = "nobody0000000000"
        with pytest.raises(ProjectNotFound):
            await projects.rotate_token(Access(nobody, "key"), 0)
        with pytest.raises(ProjectNotFound):
            await projects.rotate_signing_secret(nobody, 0)

    async def test_the_signing_secret(self, ports: Ports, projects: Projects, registered: Registered) -> None:
        project_id = registered.project.project_id
        secret = (await projects.rotate_signing_secret(project_id, HOUR_MS)).signing_secret
        await ports.subscribe(spec("a"), project_id=project_id)
        (claim,) = await ports.claim(project_id=project_id)

        assert claim.signing_secrets == (secret, registered.signing_secret)


class TestRotateAgain:
    """The answer to RotateToken was lost, and the call is repeated with its request id."""

    @pytest.mark.parametrize("grace_ms", [0, HOUR_MS])
    async def test_the_second_answer_counts(
        self,
        ports: Ports,
        projects: Projects,
        authenticator: Authenticator,
        registered: Registered,
        grace_ms: int,
    ) -> None:
        await ports.look()
        caller = await authenticator.authenticate(registered.token)
        lost = await projects.rotate_token(caller, grace_ms, REQUEST_ID)

        again = await authenticator.authenticate(registered.token)
        assert again.ended == (grace_ms == 0)
        made = await projects.rotate_token(again, grace_ms, REQUEST_ID)

        assert "not valid" in await refused(authenticator, lost.token)
        assert (await authenticator.authenticate(made.token)).project_id == caller.project_id
        assert made.old_expire_time_ms == lost.old_expire_time_ms
        valid = {one.key_id for one in await projects.tokens(caller.project_id)}
        assert valid == {made.token.split("_")[1]} | ({caller.key_id} if grace_ms else set())

    async def test_with_another_request_id_it_is_not_the_same_call(
        self, ports: Ports, projects: Projects, authenticator: Authenticator, registered: Registered
    ) -> None:
        await ports.look()
        caller = await authenticator.authenticate(registered.token)
        made = await projects.rotate_token(caller, 0, REQUEST_ID)

        for request_id in ("", "another-request-id-of-somebody"):
            with pytest.raises(Unauthenticated):
                await projects.rotate_token(caller, 0, request_id)

        assert (await authenticator.authenticate(made.token)).project_id == caller.project_id

    async def test_not_after_the_new_token_was_rotated(
        self, projects: Projects, authenticator: Authenticator, registered: Registered
    ) -> None:
        caller = await authenticator.authenticate(registered.token)
        second = await projects.rotate_token(caller, 0, REQUEST_ID)
        third = await projects.rotate_token(await authenticator.authenticate(second.token), 0, REQUEST_ID)

        with pytest.raises(Unauthenticated):
            await projects.rotate_token(caller, 0, REQUEST_ID)

        assert (await authenticator.authenticate(third.token)).project_id == caller.project_id


class TestTokens:
    async def test_what_is_known_of_them(
        self, ports: Ports, projects: Projects, registered: Registered
    ) -> None:
        project_id = registered.project.project_id
        made = await projects.create_token(project_id, Scope.SUBSCRIBE, "the shop", HOUR_MS)

        first, second = await projects.tokens(project_id)

        assert (first.scope, first.display_name, first.expire_time_ms) == (Scope.FULL, "", None)
        assert first.create_time_ms == registered.project.create_time_ms
        assert second == made.credential
        assert (second.scope, second.display_name) == (Scope.SUBSCRIBE, "the shop")
        assert second.create_time_ms is not None
        assert second.expire_time_ms == second.create_time_ms + HOUR_MS

    async def test_one_that_has_run_out_is_none(
        self, ports: Ports, projects: Projects, authenticator: Authenticator, registered: Registered
    ) -> None:
        project_id = registered.project.project_id
        made = await projects.create_token(project_id, Scope.READ, "", 1)
        await ports.until((made.credential.expire_time_ms or 0) + 1)
        await ports.look()

        assert "run out" in await refused(authenticator, made.token)
        assert len(await projects.tokens(project_id)) == 1
        with pytest.raises(TokenNotFound):
            await projects.revoke_token(project_id, made.credential.key_id)

    async def test_a_revoked_one_ends_at_once(
        self, projects: Projects, authenticator: Authenticator, registered: Registered
    ) -> None:
        project_id = registered.project.project_id
        made = await projects.create_token(project_id, Scope.READ, "", None)
        await authenticator.authenticate(made.token)  # and is believed for a while

        await projects.revoke_token(project_id, made.credential.key_id)

        assert "revoked" in await refused(authenticator, made.token)
        with pytest.raises(TokenNotFound):
            await projects.revoke_token(project_id, made.credential.key_id)

    async def test_of_another_project_is_not_found(self, projects: Projects, registered: Registered) -> None:
        other = await projects.register("other@example.com")
        (key,) = await projects.tokens(other.project.project_id)

        with pytest.raises(TokenNotFound):
            await projects.revoke_token(registered.project.project_id, key.key_id)

    async def test_the_last_full_one_that_lasts_stays(
        self, projects: Projects, authenticator: Authenticator, registered: Registered
    ) -> None:
        caller = await authenticator.authenticate(registered.token)
        await projects.create_token(caller.project_id, Scope.READ, "", None)
        await projects.create_token(caller.project_id, Scope.FULL, "for an hour", HOUR_MS)

        with pytest.raises(LastFullToken):
            await projects.revoke_token(caller.project_id, caller.key_id)

        await projects.create_token(caller.project_id, Scope.FULL, "", None)
        await projects.revoke_token(caller.project_id, caller.key_id)

    async def test_one_whose_key_id_another_one_has_gets_another(
        self,
        projects: Projects,
        authenticator: Authenticator,
        registered: Registered,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The random part of a key id has 1.7 million values: of a hundred tokens, 0.3 % have two alike."""
        caller = await authenticator.authenticate(registered.token)
        endings, random = iter(["aaaa", "aaaa", "aaab", "aaab", "aaac"]), token_format._random
        monkeypatch.setattr(
            token_format, "_random", lambda n, alphabet: next(endings) if n == 4 else random(n, alphabet)
        )

        first = await projects.create_token(caller.project_id, Scope.FULL, "", None)
        second = await projects.create_token(caller.project_id, Scope.READ, "", None)
        third = await projects.rotate_token(caller, HOUR_MS)

        tokens = [first.token, second.token, third.token]
        found = [(await authenticator.authenticate(token)).key_id[-4:] for token in tokens]
        assert found == ["aaaa", "aaab", "aaac"]
        assert next(endings, None) is None

    async def test_there_is_a_limit(
        self, ports: Ports, projects: Projects, authenticator: Authenticator, registered: Registered
    ) -> None:
        caller = await authenticator.authenticate(registered.token)
        for _ in range(MOST_CREDENTIALS - 1):
            await projects.create_token(caller.project_id, Scope.READ, "", None)

        with pytest.raises(TooManyTokens, match="100 tokens"):
            await projects.create_token(caller.project_id, Scope.READ, "", None)
        with pytest.raises(TooManyTokens):
            await projects.rotate_token(caller, HOUR_MS)
        assert await authenticator.authenticate(registered.token) == caller
        await projects.rotate_token(caller, 0)

    async def test_of_a_project_that_is_gone(self, projects: Projects) -> None:
        nobody = "nobody0000000000"
        with pytest.raises(ProjectNotFound):
            await projects.create_token(nobody, Scope.READ, "", None)
        with pytest.raises(ProjectNotFound):
            await projects.tokens(nobody)
        with pytest.raises(ProjectNotFound):
            await projects.revoke_token(nobody, "key")


async def test_the_epoch_is_the_store_s(ports: Ports, projects: Projects) -> None:
    kept = await ports.client.hget("kuueri:store", "epoch")
    assert isinstance(kept, bytes)
    assert await projects.epoch() == kept.decode()
