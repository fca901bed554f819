"""What is followed: a subscription while anyone follows a subject, and its tails for all who do."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from unittest.mock import AsyncMock, call, create_autospec

import pytest

from kuueri_grpc.domain.errors import Draining, KuueriError, StoreUnavailable
from kuueri_grpc.engine.topics import Topic, Topics
from kuueri_grpc.ports import Changed, SignalBus
from tests.unit.engine.streams import Event

TASK, OTHER, PROJECT = Changed("p", "a"), Changed("p", "b"), Changed("p", None)


@pytest.fixture
def bus() -> AsyncMock:
    made: AsyncMock = create_autospec(SignalBus, instance=True)
    return made


@pytest.fixture
def topics(bus: AsyncMock) -> Topics:
    return Topics(bus)


class Events:
    """A stream of the events 1, 2, 3 ... of which `latest` have happened."""

    latest = 0
    reads = 0

    async def read(self, after: int) -> tuple[Sequence[Event], int]:
        self.reads += 1
        return [Event(number) for number in range(after + 1, self.latest + 1)], self.latest


async def soon(topic: Topic, events: Events, identity: object = None) -> Sequence[int]:
    """Return what happens from the beginning on."""
    tail = topic.tail(identity, events.read, 100)
    assert tail.reaches(0)
    async with asyncio.timeout(10):
        return await tail.after(0)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def until(in_force: asyncio.Event) -> Callable[[str, str | None], Awaitable[None]]:
    """A subscription that takes until then."""

    async def follow(project_id: str, task_id: str | None) -> None:
        await in_force.wait()

    return follow


class TestSubscriptions:
    async def test_each_who_follows_is_told_to_the_bus_and_each_who_leaves(
        self, topics: Topics, bus: AsyncMock
    ) -> None:
        async with topics.following(TASK):
            async with topics.following(PROJECT):
                assert topics.followers == 2
            assert bus.mock_calls == [call.follow("p", "a"), call.follow("p", None), call.unfollow("p", None)]
            assert topics.followers == 1

        assert bus.unfollow.call_args == call("p", "a")
        assert topics.followers == 0

    async def test_the_signals_are_in_force_before_anything_is_read(
        self, topics: Topics, bus: AsyncMock
    ) -> None:
        in_force = asyncio.Event()
        bus.follow.side_effect = until(in_force)
        entered = asyncio.ensure_future(self.enter(topics))
        await turns()
        assert not entered.done()

        in_force.set()

        await entered

    async def test_a_subscription_that_fails_leaves_nothing_behind(
        self, topics: Topics, bus: AsyncMock
    ) -> None:
        bus.follow.side_effect = StoreUnavailable("no connection for signals")

        with pytest.raises(StoreUnavailable):
            await self.enter(topics)

        assert topics.followers == 0
        bus.unfollow.assert_not_called()

    async def test_one_that_gives_up_while_it_joins_leaves_nothing_behind(
        self, topics: Topics, bus: AsyncMock
    ) -> None:
        bus.follow.side_effect = until(asyncio.Event())
        joining = asyncio.ensure_future(self.enter(topics))
        await turns()
        assert topics.followers == 1

        joining.cancel()
        await asyncio.wait([joining])

        assert topics.followers == 0
        bus.unfollow.assert_not_called()

    async def enter(self, topics: Topics) -> None:
        async with topics.following(TASK):
            pass


class TestNews:
    async def test_it_reaches_all_who_follow_the_subject_by_one_reading(self, topics: Topics) -> None:
        events = Events()
        async with AsyncExitStack() as stack:
            followed = [await stack.enter_async_context(topics.following(TASK)) for _ in range(50)]
            waiting = [asyncio.ensure_future(soon(topic, events)) for topic in followed]
            await turns()
            events.latest, events.reads = 2, 0

            topics.changed(TASK)

            assert [list(told) for told in await asyncio.gather(*waiting)] == [[1, 2]] * 50
            assert events.reads == 1

    async def test_it_does_not_reach_who_follows_another_subject(self, topics: Topics) -> None:
        events = Events()
        async with topics.following(TASK) as topic:
            waiting = asyncio.ensure_future(soon(topic, events))
            await turns()
            events.latest = 1

            for elsewhere in (OTHER, PROJECT, Changed("q", "a")):
                topics.changed(elsewhere)
            await turns()

            assert not waiting.done()
            topics.changed(TASK)
            assert list(await waiting) == [1]

    async def test_after_an_interruption_there_may_be_news_of_everything(self, topics: Topics) -> None:
        of_task, of_project = Events(), Events()
        async with topics.following(TASK) as task, topics.following(PROJECT) as project:
            waiting = [
                asyncio.ensure_future(soon(task, of_task)),
                asyncio.ensure_future(soon(project, of_project)),
            ]
            await turns()
            of_task.latest, of_project.latest = 1, 2

            topics.doubt_all()

            assert [list(told) for told in await asyncio.gather(*waiting)] == [[1], [1, 2]]

    async def test_what_was_signalled_before_the_tail_was_made_is_read(self, topics: Topics) -> None:
        """The first follower asks for the tail when it has read the snapshot."""
        events = Events()
        async with topics.following(TASK) as topic:
            events.latest = 1
            topics.changed(TASK)

            assert list(await soon(topic, events)) == [1]

    async def test_a_task_and_its_successor_of_that_id_have_streams_of_their_own(
        self, topics: Topics
    ) -> None:
        former, latter = Events(), Events()
        former.latest, latter.latest = 2, 1
        async with topics.following(TASK) as topic:
            assert list(await soon(topic, former, identity="made first")) == [1, 2]
            assert list(await soon(topic, latter, identity="made later")) == [1]
            assert topic.tail("made first", latter.read, 100) is topic.tail("made first", former.read, 100)

    async def test_one_who_comes_when_nobody_follows_any_more_reads_anew(self, topics: Topics) -> None:
        async with topics.following(TASK) as first:
            tail = first.tail(None, Events().read, 100)
        async with topics.following(TASK) as second:
            assert second.tail(None, Events().read, 100) is not tail

    async def test_one_who_stays_keeps_the_tail_for_those_who_come(self, topics: Topics) -> None:
        async with topics.following(TASK) as stays:
            tail = stays.tail(None, Events().read, 100)
            for _ in range(2):
                async with topics.following(TASK) as comes:
                    assert comes.tail(None, Events().read, 100) is tail


class TestClosing:
    async def test_those_that_follow_end_each_with_an_error_of_its_own(self, topics: Topics) -> None:
        async with topics.following(TASK) as task, topics.following(PROJECT) as project:
            waiting = [asyncio.ensure_future(soon(topic, Events())) for topic in (task, task, project)]
            await turns()

            topics.close(Draining)

            errors = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(error) for error in errors] == [Draining] * 3
            assert len(set(map(id, errors))) == 3

    async def test_those_that_have_joined_and_read_nothing_yet_end_too(self, topics: Topics) -> None:
        async with topics.following(TASK) as topic:
            topics.close(Draining)

            with pytest.raises(Draining):
                await soon(topic, Events())

    async def test_those_that_come_are_refused_before_they_subscribe(
        self, topics: Topics, bus: AsyncMock
    ) -> None:
        topics.close(Draining)

        with pytest.raises(KuueriError) as refused:
            async with topics.following(TASK):
                pass

        assert isinstance(refused.value, Draining)
        bus.follow.assert_not_awaited()

    async def test_those_that_are_joining_meanwhile_end(self, topics: Topics, bus: AsyncMock) -> None:
        in_force = asyncio.Event()
        bus.follow.side_effect = until(in_force)

        async def follow() -> Sequence[int]:
            async with topics.following(TASK) as topic:
                return await soon(topic, Events())

        joining = asyncio.ensure_future(follow())
        await turns()
        topics.close(Draining)
        in_force.set()

        with pytest.raises(Draining):
            await joining
        assert topics.followers == 0
