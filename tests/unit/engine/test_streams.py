"""Open streams: what ends them from elsewhere, and what does not."""

import asyncio

import pytest

from kuueri_grpc.domain.access import Access
from kuueri_grpc.domain.errors import ConnectionAged, Draining, KuueriError, Unauthenticated
from kuueri_grpc.engine.streams import Stream, Streams

MINE, OTHERS = Access("p", "k"), Access("q", "k")
FOREVER_S = 3_600.0


class Opened:
    """A stream that stays open in a task of its own until something ends it."""

    def __init__(self, streams: Streams, access: Access = MINE, lasts_s: float | None = None) -> None:
        self.stream = streams.stream(access, lasts_s)
        self._is_open = asyncio.Event()
        self.task = asyncio.create_task(self._stay(self.stream))

    async def _stay(self, stream: Stream) -> None:
        with stream:
            self._is_open.set()
            await asyncio.Event().wait()

    async def open(self) -> "Opened":
        await self._is_open.wait()
        return self

    async def leave(self) -> None:
        """End it as a caller does who goes: no test leaves a task behind."""
        self.task.cancel()
        await self.error()

    async def error(self) -> BaseException | None:
        async with asyncio.timeout(30):
            await asyncio.wait([self.task])
        return None if self.task.cancelled() else self.task.exception()


async def test_those_that_are_open_are_known_by_their_project() -> None:
    streams = Streams()
    mine, others = await Opened(streams).open(), await Opened(streams, OTHERS).open()
    assert (len(streams), streams.count("p"), streams.count("x")) == (2, 1, 0)
    assert streams.of("q") == [others.stream]

    await mine.leave()

    assert list(streams) == [others.stream]
    assert not mine.stream.open
    others.stream.end(Draining())
    await others.error()
    assert not len(streams)


async def test_one_that_is_ended_ends_with_the_first_reason_that_was_given() -> None:
    opened, why = await Opened(Streams()).open(), Draining()

    opened.stream.end(why)
    opened.stream.end(ConnectionAged())

    assert await opened.error() is why
    assert not opened.task.cancelling()


async def test_one_whose_caller_goes_as_it_is_ended_is_cancelled() -> None:
    opened = await Opened(Streams()).open()

    opened.stream.end(Draining())
    opened.task.cancel()

    assert await opened.error() is None
    assert opened.task.cancelled()


@pytest.mark.parametrize("raised", [TimeoutError("its own"), Draining()])
async def test_what_it_raises_itself_comes_through(raised: Exception) -> None:
    with pytest.raises(type(raised)) as caught, Streams().stream(MINE):
        raise raised
    assert caught.value is raised


async def test_one_that_is_closed_is_ended_no_more() -> None:
    with Streams().stream(MINE) as stream:
        pass
    stream.end(Draining())
    await asyncio.sleep(0)  # here it would be cancelled


@pytest.mark.parametrize(
    ("lasts_s", "expires_s", "error"),
    [
        (0.01, None, ConnectionAged),
        (FOREVER_S, 0.01, Unauthenticated),
        (0.01, FOREVER_S, ConnectionAged),
        (None, -1.0, Unauthenticated),
    ],
)
async def test_it_ends_at_the_earlier_one_of_two_times(
    lasts_s: float | None, expires_s: float | None, error: type[KuueriError]
) -> None:
    opened = await Opened(Streams(), lasts_s=lasts_s).open()
    if expires_s is not None:
        opened.stream.expire_in(expires_s)

    assert type(await opened.error()) is error


async def test_each_ends_at_its_own_time_whichever_was_opened_first() -> None:
    streams = Streams()
    last, first, second, never = [
        await Opened(streams, lasts_s=lasts_s).open() for lasts_s in (0.06, 0.01, 0.03, None)
    ]
    ended: list[asyncio.Task[None]] = []
    for opened in (last, first, second, never):
        opened.task.add_done_callback(ended.append)

    assert type(await last.error()) is ConnectionAged
    await asyncio.sleep(0)  # for what is called when it is done
    assert ended == [first.task, second.task, last.task]
    assert list(streams) == [never.stream]
    # An error that nobody asks for is reported whenever the task is collected.
    assert [type(await opened.error()) for opened in (first, second)] == [ConnectionAged] * 2
    await never.leave()


@pytest.mark.parametrize("wait_s", [0.0, 0.0004, 0.01])
async def test_many_end_at_one_time(wait_s: float) -> None:
    streams = Streams()
    many = [await Opened(streams).open() for _ in range(5)]

    for opened in many:
        opened.stream.expire_in(wait_s)

    assert [type(await opened.error()) for opened in many] == [Unauthenticated] * 5


async def test_one_that_is_ended_in_a_step_that_is_whole_ends_behind_it() -> None:
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), False

    async def step() -> None:
        nonlocal ended
        begun.set()
        await may_end.wait()
        ended = True

    async def stay(stream: Stream) -> None:
        with stream:
            await stream.whole(step())
            await asyncio.Event().wait()

    stream, why = Streams().stream(MINE), Draining()
    task = asyncio.create_task(stay(stream))
    await begun.wait()
    stream.end(why)
    may_end.set()

    await asyncio.wait([task])
    assert ended
    assert task.exception() is why
    assert not task.cancelling()


async def test_a_step_that_is_whole_is_broken_off_when_the_caller_goes() -> None:
    begun = asyncio.Event()

    async def step() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def stay(stream: Stream) -> None:
        with stream:
            await stream.whole(step())

    stream = Streams().stream(MINE)
    task = asyncio.create_task(stay(stream))
    await begun.wait()
    stream.end(Draining())
    task.cancel()

    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_later_time_replaces_an_earlier_one() -> None:
    streams = Streams()
    stays, goes = await Opened(streams).open(), await Opened(streams, lasts_s=0.03).open()
    stays.stream.expire_in(0.01)
    stays.stream.expire_in(FOREVER_S)

    assert type(await goes.error()) is ConnectionAged
    assert stays.stream.open
    assert stays.stream.ends_at > goes.stream.ends_at
    await stays.leave()
