"""Tokens from where many are not valid: read in rounds, unless they were valid lately."""

import asyncio

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable, Unauthenticated
from kuueri_grpc.engine import authentication, delayed_lookups, token_format
from kuueri_grpc.engine.authentication import Authenticator
from kuueri_grpc.engine.projects import Registered
from kuueri_grpc.ports import Credential
from kuueri_grpc.store.projects import RedisProjectStore
from tests.engine.credentials import Counting, with_another_secret
from tests.engine.parts import soon
from tests.store.ports import Ports


async def test_a_valid_one_behind_a_crowd_goes_through(
    ports: Ports, counting: Counting, registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its turn, however many come with it; the store is asked for a bounded number at a time."""
    monkeypatch.setattr(delayed_lookups, "_ROUND", 10)
    authenticator = Authenticator(counting, ports.clock)
    rounds: list[int] = []
    sleep = asyncio.sleep

    async def waiting(seconds: float) -> None:
        if seconds == delayed_lookups._ROUND_S:
            rounds.append(counting.reads)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", waiting)
    crowd = [token_format.new_token(registered.project.project_id)[1] for _ in range(95)]
    refusals = [asyncio.create_task(authenticator.authenticate(token, delayed=True)) for token in crowd]
    await sleep(0)  # they come first

    access = await soon(authenticator.authenticate(registered.token, delayed=True))

    assert access.project_id == registered.project.project_id
    assert rounds == list(range(0, 100, 10))
    results = await asyncio.gather(*refusals, return_exceptions=True)
    assert all(isinstance(result, Unauthenticated) for result in results)


async def test_the_same_one_is_looked_up_once(
    ports: Ports, counting: Counting, registered: Registered
) -> None:
    authenticator = Authenticator(counting, ports.clock)
    token = with_another_secret(registered.token)

    await asyncio.gather(
        *(authenticator.authenticate(token, delayed=True) for _ in range(20)), return_exceptions=True
    )

    assert counting.reads == 1


async def test_what_cannot_be_a_token_is_not(ports: Ports, counting: Counting) -> None:
    authenticator = Authenticator(counting, ports.clock)
    for token in ("kq", token_format.new_token("abcdefgh12345678")[1][:-1] + "!"):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(token, delayed=True)

    assert counting.reads == 0


async def test_one_that_was_valid_lately_does_not_wait(
    ports: Ports, counting: Counting, registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_REMEMBERED_S", -1.0)
    authenticator = Authenticator(counting, ports.clock)
    await authenticator.authenticate(registered.token)

    async def none(*_: object) -> None:
        raise AssertionError("it waits")

    monkeypatch.setattr(authenticator._delayed, "credential", none)
    await authenticator.authenticate(registered.token, delayed=True)

    assert counting.reads == 2


async def test_a_store_that_does_not_serve_is_told(ports: Ports, registered: Registered) -> None:
    class Away(RedisProjectStore):
        async def credential(self, project_id: str, key_id: str) -> Credential | None:
            raise StoreUnavailable("away")

    authenticator = Authenticator(Away(*ports.project_parts), ports.clock)
    for _ in range(2):  # the rounds go on
        with pytest.raises(StoreUnavailable, match="away"):
            await authenticator.authenticate(registered.token, delayed=True)
