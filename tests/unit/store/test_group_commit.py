"""What shares a commit with what, and what becomes of it."""

import asyncio
from collections.abc import Sequence

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.store import group_commit
from kuueri_grpc.store.group_commit import GroupCommit

MOST, HEAVIEST = 5, 100


class Store:
    """Keeps what is committed; a commit ends when the test says so."""

    def __init__(self) -> None:
        self.commits: list[tuple[str, list[int]]] = []
        self.began: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()

    async def commit(self, key: str, items: Sequence[int]) -> list[str]:
        self.commits.append((key, list(items)))
        end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.began.put_nowait(end)
        await end
        return [f"{key}{item}" for item in items]

    async def end_next(self) -> None:
        (await self.began.get()).set_result(None)

    async def next_began(self) -> None:
        end = await self.began.get()
        assert not end.done()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def group(store: Store, monkeypatch: pytest.MonkeyPatch) -> GroupCommit[str, int, str]:
    monkeypatch.setattr(group_commit, "_PATIENCE_S", 3_600)
    monkeypatch.setattr(group_commit, "_RETURN_S", 3_600)
    return GroupCommit(store.commit, MOST, HEAVIEST)


def adding(group: GroupCommit[str, int, str], *items: int, key: str = "a") -> list[asyncio.Task[str]]:
    return [asyncio.create_task(group.add(key, item, 1)) for item in items]


async def test_what_comes_at_one_moment_shares_a_commit(
    store: Store, group: GroupCommit[str, int, str]
) -> None:
    calls = adding(group, 1, 2, 3)
    await store.end_next()
    assert await asyncio.gather(*calls) == ["a1", "a2", "a3"]
    assert store.commits == [("a", [1, 2, 3])]


async def test_what_comes_meanwhile_is_the_next_commit_with_who_was_answered(
    store: Store, group: GroupCommit[str, int, str]
) -> None:
    first = adding(group, 1, 2)
    end = await store.began.get()
    second = adding(group, 3)
    await asyncio.sleep(0)
    end.set_result(None)
    assert await asyncio.gather(*first) == ["a1", "a2"]
    # As many as were answered are awaited.
    again = adding(group, 4)
    await asyncio.sleep(0)
    assert store.commits == [("a", [1, 2])]
    again += adding(group, 5)
    await store.end_next()
    assert await asyncio.gather(*second, *again) == ["a3", "a4", "a5"]
    assert store.commits == [("a", [1, 2]), ("a", [3, 4, 5])]


async def test_who_does_not_come_back_is_waited_for_a_moment_only(
    store: Store, group: GroupCommit[str, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "_RETURN_S", 0.001)
    first = adding(group, 1, 2)
    end = await store.began.get()
    second = adding(group, 3)
    await asyncio.sleep(0)
    end.set_result(None)
    assert await asyncio.gather(*first) == ["a1", "a2"]
    await store.end_next()
    assert await asyncio.gather(*second) == ["a3"]


async def test_who_was_answered_alone_is_not_waited_for(
    store: Store, group: GroupCommit[str, int, str]
) -> None:
    first = adding(group, 1)
    end = await store.began.get()
    second = adding(group, 2)
    await asyncio.sleep(0)
    end.set_result(None)
    assert await asyncio.gather(*first) == ["a1"]
    await store.end_next()
    assert await asyncio.gather(*second) == ["a2"]


async def test_a_full_group_waits_for_nobody_to_come_back(
    store: Store, group: GroupCommit[str, int, str]
) -> None:
    first = adding(group, *range(1, MOST))
    end = await store.began.get()
    calls = adding(group, *range(1, MOST))
    await asyncio.sleep(0)
    end.set_result(None)
    await asyncio.gather(*first)
    calls += adding(group, MOST)
    await store.end_next()
    assert await asyncio.gather(*calls) == [f"a{item}" for item in range(1, MOST + 1)]


async def test_an_answer_prolongs_no_wait(
    store: Store, group: GroupCommit[str, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for a slow commit already goes out when its own time is over."""
    adding(group, 1, 2)
    end = await store.began.get()
    monkeypatch.setattr(group_commit, "_PATIENCE_S", 0.001)
    calls = adding(group, 3)
    await asyncio.sleep(0)
    end.set_result(None)
    await store.end_next()
    assert await asyncio.gather(*calls) == ["a3"]


async def test_who_comes_alone_waits_for_nobody(store: Store, group: GroupCommit[str, int, str]) -> None:
    for item in range(3):
        (call,) = adding(group, item)
        await store.end_next()
        assert await call == f"a{item}"
    assert store.commits == [("a", [0]), ("a", [1]), ("a", [2])]


async def test_keys_do_not_wait_for_each_other(store: Store, group: GroupCommit[str, int, str]) -> None:
    adding(group, 1, key="slow")
    await store.next_began()
    other = adding(group, 1, key="b")
    await store.end_next()
    assert await asyncio.gather(*other) == ["b1"]


async def test_a_full_group_does_not_wait(store: Store, group: GroupCommit[str, int, str]) -> None:
    adding(group, 0)
    await store.next_began()
    calls = adding(group, *range(1, MOST + 2))
    await store.end_next()
    assert await asyncio.gather(*calls[:MOST]) == [f"a{item}" for item in range(1, MOST + 1)]
    assert store.commits[1] == ("a", list(range(1, MOST + 1)))


async def test_a_heavy_group_does_not_wait(store: Store, group: GroupCommit[str, int, str]) -> None:
    adding(group, 0)
    await store.next_began()
    heavy = asyncio.create_task(group.add("a", 1, HEAVIEST))
    await store.end_next()
    assert await heavy == "a1"


async def test_a_slow_commit_is_not_waited_for(
    store: Store, group: GroupCommit[str, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "_PATIENCE_S", 0.001)
    adding(group, 1)
    await store.next_began()
    calls = adding(group, 2)
    await store.end_next()
    assert await asyncio.gather(*calls) == ["a2"]


async def test_who_is_cancelled_takes_nothing_from_the_others(
    store: Store, group: GroupCommit[str, int, str]
) -> None:
    """Also when it is the one that came first. What was not sent by then is not committed."""
    before, *others = adding(group, 1, 2, 0)
    end = await store.began.get()
    before.cancel()
    queued, last = adding(group, 3, 4)
    await asyncio.sleep(0)
    queued.cancel()
    end.set_result(None)
    assert await asyncio.gather(*others) == ["a2", "a0"]
    # Two were answered, so two are awaited.
    adding(group, 5, 6)
    await store.end_next()
    assert await last == "a4"
    assert store.commits == [("a", [1, 2, 0]), ("a", [4, 5, 6])]
    assert before.cancelled()
    assert queued.cancelled()


async def test_who_met_a_failure_is_not_waited_for(store: Store, group: GroupCommit[str, int, str]) -> None:
    failed = adding(group, 1, 2)
    end = await store.began.get()
    calls = adding(group, 3)
    await asyncio.sleep(0)
    end.set_exception(StoreUnavailable("away"))
    await store.end_next()
    assert await asyncio.gather(*calls) == ["a3"]
    with pytest.raises(StoreUnavailable):
        await asyncio.gather(*failed)


async def test_a_failure_is_told_to_each(store: Store, group: GroupCommit[str, int, str]) -> None:
    calls = adding(group, 1, 2)
    end = await store.began.get()
    cause = OSError("reset")
    failure = StoreUnavailable("away")
    failure.__cause__ = cause
    end.set_exception(failure)
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [(type(error), str(error)) for error in errors] == [(StoreUnavailable, "away")] * 2
    assert errors[0] is not errors[1]
    assert all(isinstance(error, StoreUnavailable) and error.__cause__ is cause for error in errors)
    # The next ones are not affected.
    again = adding(group, 3)
    await store.end_next()
    assert await asyncio.gather(*again) == ["a3"]
