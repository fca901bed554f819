"""Waits of one length: who is told that theirs is over, and by how many timers."""

import asyncio
from unittest.mock import MagicMock

import pytest

from kuueri_grpc.engine.patience import Patience

SHORT_S, LONG_S = 0.01, 3_600.0


class Told:
    """Those whose time was over, in order; `count` of them are awaited."""

    def __init__(self, count: int) -> None:
        self.names: list[str] = []
        self._count = count
        self._all = asyncio.Event()

    def __call__(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self._count:
            self._all.set()

    async def all(self) -> list[str]:
        async with asyncio.timeout(30):
            await self._all.wait()
        return self.names


async def test_each_is_told_once_in_the_order_in_which_they_began() -> None:
    told = Told(3)
    patience = Patience(lambda: SHORT_S, told)
    for name in "abc":
        patience.begin(name)

    assert await told.all() == ["a", "b", "c"]


async def test_who_has_ended_is_not_told() -> None:
    told = Told(2)
    patience = Patience(lambda: SHORT_S, told)
    for name in "abc":
        patience.begin(name)
    patience.end("a")
    patience.end("a")
    patience.end("unknown")

    assert await told.all() == ["b", "c"]


@pytest.mark.parametrize("length_s", [0.0, 0.0004])
async def test_waits_that_are_over_at_once_are_told_like_any(length_s: float) -> None:
    told = Told(3)
    patience = Patience(lambda: length_s, told)
    for name in "abc":
        patience.begin(name)

    assert await told.all() == ["a", "b", "c"]


async def test_who_begins_when_another_is_told_is_told_too() -> None:
    told = Told(3)

    def again(name: str) -> None:
        told(name)
        patience.begin(name)

    patience = Patience(lambda: SHORT_S, again)
    patience.begin("a")

    assert (await told.all())[:3] == ["a", "a", "a"]
    patience.end("a")


async def test_a_shorter_length_holds_for_who_begins_after_it_was_set() -> None:
    """A timer that stands for those who have ended is no reason to wait for it."""
    told, length_s = Told(1), LONG_S
    patience = Patience(lambda: length_s, told)
    patience.begin("a")
    patience.end("a")

    length_s = SHORT_S
    patience.begin("b")

    assert await told.all() == ["b"]


async def test_there_is_one_timer_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    call_at = MagicMock(side_effect=loop.call_at)
    monkeypatch.setattr(loop, "call_at", call_at)
    patience = Patience(lambda: LONG_S, Told(1))

    for number in range(1_000):
        patience.begin(str(number))
        if number % 2:
            patience.end(str(number))

    assert call_at.call_count == 1
