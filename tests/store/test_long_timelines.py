"""A timeline with more events than are kept: the first and the newest are, and readers learn of the gap."""

import pytest

from kuueri_grpc.domain.errors import CursorTooOld
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.domain.timeline import EventType, TimelineGap
from kuueri_grpc.ports import TimelineSlice
from kuueri_grpc.store.keys import TIMELINE, partition_of
from kuueri_grpc.store.settings import StoreSettings
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec

#: Of more than 40 events the first 2 are kept, and the newest 36 or more.
CAP, FIRST, NEWEST = 40, 2, 36
KEY = f"{{{partition_of(PROJECT, 4)}}}:timeline:{PROJECT}/a"

pytestmark = pytest.mark.parametrize(
    "store_settings", [StoreSettings(partitions=4, timeline_cap=CAP)], ids=[f"{CAP} events"]
)


async def make(ports: Ports, events: int) -> None:
    """Make a task "a" with so many events."""
    await ports.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)))
    await go_on(ports, 1, events)


async def go_on(ports: Ports, events: int, until: int) -> None:
    """Let "a", which has `events`, have so many."""
    for sequence in range(events + 1, until + 1):
        await (ports.tasks.resume if sequence % 2 else ports.tasks.pause)(PROJECT, "a")


async def read(ports: Ports, after: int = 0, limit: int = 1_000) -> TimelineSlice:
    return await ports.tasks.timeline(PROJECT, "a", after, limit)


def sequences(page: TimelineSlice) -> list[int]:
    return [event.sequence for event in page.events]


async def in_list(ports: Ports, *command: str) -> None:
    """Run a command on the timeline's list behind the server's back."""
    script = "redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))"
    await ports.run_in(TIMELINE, script, [KEY], *command)


async def test_up_to_the_cap_all_events_are_kept(ports: Ports) -> None:
    await make(ports, CAP)

    page = await read(ports)

    assert sequences(page) == list(range(1, CAP + 1))
    assert (page.first_sequence, page.kept_in_front, page.gap) == (1, 0, None)


async def test_beyond_it_the_first_and_the_newest_are(ports: Ports) -> None:
    await make(ports, CAP)
    firsts = (await read(ports, limit=FIRST)).events
    kept_counts = set()

    for events in range(CAP + 1, CAP + 30):
        await go_on(ports, events - 1, events)
        page = await read(ports)

        first = page.first_sequence
        assert sequences(page) == [*range(1, FIRST + 1), *range(first, events + 1)]
        assert list(page.events[:FIRST]) == list(firsts)
        assert page.gap == TimelineGap(FIRST + 1, first - 1)
        assert events - first + 1 >= NEWEST
        assert len(page.events) <= CAP
        kept_counts.add(len(page.events))
    # Many go at once, so that not each event of a long timeline moves others.
    assert kept_counts == set(range(FIRST + NEWEST, CAP + 1))


async def test_it_is_read_in_pages_of_any_size(ports: Ports) -> None:
    await make(ports, 60)
    whole = await read(ports)
    assert whole.gap is not None

    for limit in range(1, CAP + 2):
        told: list[int] = []
        while (page := await read(ports, told[-1] if told else 0, limit)).events:
            assert (page.first_sequence, page.gap) == (whole.first_sequence, whole.gap)
            told += sequences(page)
        assert told == sequences(whole)


async def test_a_position_in_the_gap_is_refused(ports: Ports) -> None:
    await make(ports, 60)
    gap = (await read(ports)).gap
    assert gap is not None

    for after in range(gap.first_sequence, gap.last_sequence):
        with pytest.raises(
            CursorTooOld, match=f"after sequence {after} are not kept any more; all are from "
        ):
            await read(ports, after)

    for after in (gap.first_sequence - 1, gap.last_sequence):
        assert sequences(await read(ports, after, 2)) == [gap.last_sequence + 1, gap.last_sequence + 2]


class TestOfAnEarlierVersion:
    """One that keeps the newest alone, and cuts what has more than the cap with each event."""

    async def test_what_it_kept_is_read_and_said_to_be_cut(self, ports: Ports) -> None:
        await make(ports, CAP)
        await in_list(ports, "LTRIM", "-30", "-1")

        page = await read(ports)

        assert sequences(page) == list(range(11, CAP + 1))
        assert (page.first_sequence, page.gap) == (11, TimelineGap(1, 10))
        with pytest.raises(CursorTooOld):
            await read(ports, 1)
        assert sequences(await read(ports, 10, 2)) == [11, 12]
        await self.leave(ports)

    async def test_it_goes_on_without_a_beginning(self, ports: Ports) -> None:
        await make(ports, 60)
        await in_list(ports, "LTRIM", str(FIRST), "-1")

        await go_on(ports, 60, 120)

        page = await read(ports)
        assert sequences(page) == list(range(page.first_sequence, 121))
        assert page.gap == TimelineGap(1, page.first_sequence - 1)
        assert NEWEST <= len(page.events) <= CAP
        await self.leave(ports)

    async def test_a_beginning_that_it_has_cut_is_not_shown(self, ports: Ports) -> None:
        """Beside this version it takes the first event away, and leaves the second."""
        await make(ports, 60)
        await in_list(ports, "LPOP")

        page = await read(ports)

        assert sequences(page) == list(range(page.first_sequence, 61))
        assert page.gap == TimelineGap(1, page.first_sequence - 1)
        assert sequences(await read(ports, page.first_sequence - 1, 1)) == [page.first_sequence]
        await self.leave(ports)

    async def leave(self, ports: Ports) -> None:
        """Remove the task, whose timeline is not as this version would have kept it."""
        await ports.tasks.cancel(PROJECT, "a")
        await ports.tasks.purge(PROJECT, "a")


async def test_a_line_that_is_none_hides_no_other(ports: Ports) -> None:
    await make(ports, 60)
    await in_list(ports, "LSET", "0", "oops")

    page = await read(ports)

    assert sequences(page) == list(range(page.first_sequence, 61))
    await ports.tasks.cancel(PROJECT, "a")
    await ports.tasks.purge(PROJECT, "a")


async def test_it_ends_like_any_other(ports: Ports) -> None:
    await make(ports, 60)

    await ports.tasks.cancel(PROJECT, "a")

    page = await read(ports)
    assert [event.type for event in page.events[:FIRST]] == [EventType.SUBSCRIBED, EventType.PAUSED]
    assert page.events[-1].type is EventType.CANCELED
    (entry,) = (entry for key, entry in ports.raw().databases[3].items() if key == KEY)
    assert entry.expires_ms is not None
