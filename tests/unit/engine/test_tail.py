"""One reading of a stream of events for all who follow it, each at a place of its own."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.domain.errors import CursorTooOld, Draining, StoreUnavailable
from kuueri_grpc.engine.tail import FellBehind, Tail, silence
from tests.unit.engine.streams import Event


class Numbers:
    """A stream of the events 1, 2, 3 ... of which `latest` have happened; it counts how often it is read.

    While `gate` is clear, an answer is on its way. `page`: how many events one answer holds.
    """

    def __init__(self, latest: int = 0, page: int = 100) -> None:
        self.latest, self.page, self.life, self.kept = latest, page, 0, 0
        self.reads: list[int] = []
        self.failures: list[Exception] = []
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, after: int) -> tuple[Sequence[Event], int]:
        self.reads.append(after)
        numbers = range(after + 1, min(self.latest, after + self.page) + 1)
        answer = [Event(n, self.life if n > self.kept else 0) for n in numbers], self.latest
        self.asked.set()
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return answer

    def go_back(self, kept: int, since: int) -> None:
        """Keep the first events only; others have happened since."""
        self.life, self.kept, self.latest = 1, kept, kept + since

    def happen(self, tail: Tail[Event], events: int = 1) -> None:
        self.latest += events
        tail.changed()


def tail_of(numbers: Numbers, position: int = 0, capacity: int = 100) -> Tail[Event]:
    """A tail that begins at `position`, as far as its first follower has read."""
    tail = Tail(numbers.read, capacity)
    assert tail.reaches(position)
    return tail


async def turns(count: int = 10) -> None:
    """Let everything that can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def soon(tail: Tail[Event], position: int) -> Sequence[int]:
    async with asyncio.timeout(10):
        return await tail.after(position)


class TestReading:
    async def test_without_news_nothing_is_read(self) -> None:
        numbers = Numbers(latest=3)
        tail = tail_of(numbers, 3)
        waiting = asyncio.ensure_future(tail.after(3))

        await turns()

        assert (waiting.done(), numbers.reads) == (False, [])
        waiting.cancel()

    async def test_a_follower_waits_for_news_and_gets_it(self) -> None:
        numbers = Numbers(latest=3)
        tail = tail_of(numbers, 3)
        waiting = asyncio.ensure_future(soon(tail, 3))
        await turns()

        numbers.happen(tail, 2)

        assert await waiting == [4, 5]
        assert numbers.reads == [3]

    async def test_news_that_turns_out_to_be_none_is_waited_on(self) -> None:
        numbers = Numbers()
        tail = tail_of(numbers)
        waiting = asyncio.ensure_future(soon(tail, 0))

        tail.changed()
        await turns()

        assert (waiting.done(), numbers.reads) == (False, [0])
        numbers.happen(tail)
        assert await waiting == [1]

    async def test_what_one_reads_all_are_given(self) -> None:
        numbers = Numbers()
        tail = tail_of(numbers)
        waiting = [asyncio.ensure_future(soon(tail, 0)) for _ in range(100)]
        await turns()

        numbers.happen(tail, 3)

        assert await asyncio.gather(*waiting) == [[1, 2, 3]] * 100
        assert numbers.reads == [0]
        assert await soon(tail, 1) == [2, 3]
        assert numbers.reads == [0]

    async def test_news_that_comes_in_during_a_reading_is_read_next(self) -> None:
        numbers = Numbers(latest=1)
        tail = tail_of(numbers)
        numbers.gate.clear()
        tail.changed()
        first = asyncio.ensure_future(soon(tail, 0))
        await numbers.asked.wait()

        numbers.happen(tail)
        numbers.gate.set()

        assert await first == [1]
        assert await soon(tail, 1) == [2]
        assert numbers.reads == [0, 1]

    async def test_what_one_reading_does_not_hold_is_read_without_more_news(self) -> None:
        numbers = Numbers(page=2)
        tail = tail_of(numbers)
        numbers.happen(tail, 5)

        told: list[int] = []
        while len(told) < 5:
            told += await soon(tail, len(told))

        assert told == [1, 2, 3, 4, 5]
        assert numbers.reads == [0, 2, 4]

    @given(
        starts=st.lists(st.integers(0, 20), min_size=1, max_size=5),
        bursts=st.lists(st.integers(0, 7), max_size=8),
        page=st.integers(1, 10),
    )
    async def test_every_follower_gets_every_event_once_and_in_order(
        self, starts: list[int], bursts: list[int], page: int
    ) -> None:
        numbers = Numbers(latest=20, page=page)
        # The first one to be in step is the one that is furthest behind: all can go on from there.
        tail = tail_of(numbers, min(starts), capacity=1_000)
        last = 20 + sum(bursts)

        async def follow(position: int) -> list[int]:
            told: list[int] = []
            while position < last:
                events = await soon(tail, position)
                told += events
                position = events[-1]
            return told

        tail.changed()
        following = [asyncio.ensure_future(follow(start)) for start in starts]
        for burst in bursts:
            numbers.happen(tail, burst)
            await asyncio.sleep(0)

        assert await asyncio.gather(*following) == [list(range(start + 1, last + 1)) for start in starts]


class TestBounds:
    async def test_no_more_is_kept_than_its_capacity(self) -> None:
        numbers = Numbers()
        tail = tail_of(numbers, capacity=3)
        numbers.happen(tail, 5)
        assert await soon(tail, 2) == [3, 4, 5]

        assert [position for position in range(6) if tail.reaches(position)] == [2, 3, 4, 5]

    async def test_one_that_falls_behind_what_is_kept_is_told(self) -> None:
        numbers = Numbers()
        tail = tail_of(numbers, capacity=3)
        for _ in range(4):
            numbers.happen(tail)
            await soon(tail, numbers.latest - 1)

        with pytest.raises(FellBehind):
            await tail.after(0)

        assert await soon(tail, 1) == [2, 3, 4]

    async def test_one_that_waits_at_the_end_is_told_of_a_burst_that_is_more_than_is_kept(self) -> None:
        """However many events one reading brings: what it would miss is not passed over in silence."""
        numbers = Numbers()
        tail = tail_of(numbers, capacity=3)
        waiting = asyncio.ensure_future(soon(tail, 0))
        await turns()

        numbers.happen(tail, 10)

        with pytest.raises(FellBehind):
            await waiting

    async def test_it_begins_where_the_first_follower_is(self) -> None:
        numbers = Numbers(latest=9)
        tail = Tail(numbers.read, 100)

        assert tail.reaches(7)
        assert not tail.reaches(6)
        tail.changed()
        assert await soon(tail, 7) == [8, 9]

    async def test_one_that_comes_while_news_is_being_read_is_told_of_it(self) -> None:
        numbers = Numbers()
        tail = tail_of(numbers)
        numbers.gate.clear()
        numbers.happen(tail)
        reading = asyncio.ensure_future(soon(tail, 0))
        await numbers.asked.wait()

        waiting = asyncio.ensure_future(soon(tail, 0))
        await turns()
        numbers.gate.set()

        assert (await reading, await waiting) == ([1], [1])
        assert numbers.reads == [0]


class TestSilence:
    async def test_one_that_waits_for_long_is_told_that_there_is_no_news_and_goes_on(self) -> None:
        numbers = Numbers()
        tail = tail_of(numbers)
        told = [await tail.after(0, silence(0.001)) for _ in range(3)]

        assert told == [(), (), ()]
        assert not tail._waiters  # or each silence would leave something behind
        waiting = asyncio.ensure_future(tail.after(0, silence(3_600)))
        await turns()
        numbers.happen(tail)
        assert await waiting == [1]

    async def test_one_that_leaves_leaves_nothing_behind(self) -> None:
        tail, long = tail_of(Numbers()), silence(3_600)
        leaves = asyncio.ensure_future(tail.after(0, long))
        await turns()
        assert (len(tail._waiters), len(long._ends)) == (1, 1)

        leaves.cancel()
        await asyncio.wait([leaves])

        assert (len(tail._waiters), len(long._ends)) == (0, 0)


class TestFailures:
    async def test_a_failed_reading_is_told_to_one_and_tried_again_by_the_next(self) -> None:
        numbers = Numbers()
        tail = tail_of(numbers)
        numbers.failures.append(StoreUnavailable("gone"))
        waiting = [asyncio.ensure_future(soon(tail, 0)) for _ in range(3)]
        await turns()

        numbers.happen(tail)

        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert sorted(map(repr, told)) == sorted(map(repr, [StoreUnavailable("gone"), [1], [1]]))

    async def test_one_that_leaves_while_it_reads_leaves_the_news_to_the_others(self) -> None:
        numbers = Numbers()
        tail = tail_of(numbers)
        numbers.gate.clear()
        leaves = asyncio.ensure_future(tail.after(0))
        stays = asyncio.ensure_future(soon(tail, 0))
        await turns()
        numbers.happen(tail)
        await numbers.asked.wait()

        leaves.cancel()
        await asyncio.wait([leaves])
        numbers.gate.set()

        assert await stays == [1]


class TestClosing:
    async def test_those_that_wait_and_those_that_come_end_with_errors_of_their_own(self) -> None:
        tail = tail_of(Numbers())
        waiting = [asyncio.ensure_future(soon(tail, 0)) for _ in range(3)]
        await turns()

        tail.close(Draining)

        errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(error) for error in errors] == [Draining] * 3
        assert len(set(map(id, errors))) == 3
        with pytest.raises(Draining):
            await tail.after(0)

    async def test_one_that_is_reading_meanwhile_ends_too(self) -> None:
        numbers = Numbers()
        tail = tail_of(numbers)
        numbers.gate.clear()
        reading = asyncio.ensure_future(soon(tail, 0))
        numbers.happen(tail)
        await numbers.asked.wait()

        tail.close(Draining)
        numbers.gate.set()

        with pytest.raises(Draining):
            await reading


class TestAStoreThatWentBack:
    """It comes back with older data, and gives numbers out a second time."""

    @pytest.mark.parametrize("since", [0, 1, 2, 5])
    async def test_who_was_told_what_is_gone_now_is_not_told_the_rest(self, since: int) -> None:
        numbers = Numbers(latest=6)
        tail = tail_of(numbers)
        tail.changed()
        assert await soon(tail, 0) == [1, 2, 3, 4, 5, 6]

        numbers.go_back(kept=4, since=since)
        tail.doubt()

        for _ in range(2):  # each follower
            with pytest.raises(CursorTooOld, match="lost its latest writes"):
                await soon(tail, 6)

    async def test_so_it_is_where_nothing_was_read_yet(self) -> None:
        numbers = Numbers(latest=6)
        tail = Tail(numbers.read, 100)
        assert tail.reaches(6, Event(6).mark)

        numbers.go_back(kept=5, since=3)
        tail.doubt()

        with pytest.raises(CursorTooOld):
            await soon(tail, 6)

    async def test_what_is_still_there_goes_on(self) -> None:
        numbers = Numbers(latest=4)
        tail = tail_of(numbers)
        tail.changed()
        assert await soon(tail, 0) == [1, 2, 3, 4]

        numbers.go_back(kept=4, since=2)
        tail.doubt()

        assert await soon(tail, 4) == [5, 6]

    async def test_a_doubt_outlives_a_failed_reading(self) -> None:
        numbers = Numbers(latest=4)
        tail = tail_of(numbers)
        tail.changed()
        await soon(tail, 0)
        numbers.go_back(kept=3, since=2)
        numbers.failures.append(StoreUnavailable("gone"))
        tail.doubt()

        with pytest.raises(StoreUnavailable):
            await soon(tail, 4)
        with pytest.raises(CursorTooOld):
            await soon(tail, 4)

    async def test_without_a_doubt_nothing_is_read_twice(self) -> None:
        numbers = Numbers(latest=2)
        tail = tail_of(numbers)
        tail.changed()
        await soon(tail, 0)
        numbers.happen(tail)
        assert await soon(tail, 2) == [3]
        assert numbers.reads == [0, 2]
