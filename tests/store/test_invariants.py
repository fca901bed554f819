"""The checker itself: it finds every kind of damage that it is there to find."""

from collections.abc import Callable

import pytest
from redis import Redis

from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.store.keys import partition_of
from tests.store import invariants, raw, timelines
from tests.store.drive import drive
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec

CAP = 10_000
NAME = f"{PROJECT}/waits"


def key(family: str, name: str = "") -> str:
    return f"{{{partition_of(PROJECT, 4)}}}:{family}{':' + name if name else ''}"


ENDED = key("timeline", f"{PROJECT}/ended")


class Databases:
    """A raw connection to each database."""

    def __init__(self, url: str) -> None:
        self.auth, self.execution, self.config, self.timeline = (
            Redis.from_url(url, db=db) for db in range(raw.DATABASES)
        )


Damage = Callable[[Databases], object]


def lose_second(db: Databases) -> object:
    line = db.timeline.lindex(ENDED, 1)
    assert isinstance(line, bytes)
    return db.timeline.lrem(ENDED, 1, line.decode())


DAMAGES: dict[str, Damage] = {
    "key that nobody answers for": lambda db: db.execution.set("stray", 1),
    "in partition": lambda db: db.execution.hset("{9}:task:someone/t", "state", "SCHEDULED"),
    "has no time to live": lambda db: db.execution.set(key("request", f"{PROJECT}/r"), "x"),
    "would expire": lambda db: db.execution.pexpire(key("queue", f"{PROJECT}/default"), HOUR_MS),
    "config .* a time to live": lambda db: db.config.pexpire(key("config", NAME), HOUR_MS),
    "timeline .*: no time to live": lambda db: db.timeline.persist(key("timeline", f"{PROJECT}/ended")),
    "its state is": lambda db: db.execution.hset(key("task", NAME), "state", "LOST"),
    "it lacks": lambda db: db.execution.hdel(key("task", NAME), "create"),
    "request or policy is missing": lambda db: db.config.hdel(key("config", NAME), "request"),
    r"in its queue at \[\]": lambda db: db.execution.zrem(key("queue", f"{PROJECT}/default"), "waits"),
    "does not wait in it": lambda db: db.execution.zadd(key("queue", f"{PROJECT}/default"), {"ended": 1}),
    "and leased": lambda db: db.execution.zadd(key("leases"), {NAME: HOUR_MS}),
    "not leased": lambda db: db.execution.zrem(key("leases"), f"{PROJECT}/flies"),
    "ListTasks does not find it": lambda db: db.execution.zrem(key("index", PROJECT), "waits"),
    "has 'left'": lambda db: db.execution.hset(key("task", NAME), "left", 5),
    "and held": lambda db: db.execution.hset(key("task", NAME), "hold", 1),
    "do not expire together": lambda db: db.config.pexpire(key("config", f"{PROJECT}/ended"), HOUR_MS),
    "not to be swept": lambda db: db.execution.zrem(key("ended"), f"{PROJECT}/ended"),
    "its last event is": lambda db: db.timeline.rpush(key("timeline", NAME), event(2, "DISPATCHED", a=1)),
    "it ends with event 3 of 1": lambda db: db.timeline.rpush(key("timeline", NAME), event(3, "PAUSED")),
    "has no timeline": lambda db: db.timeline.delete(key("timeline", f"{PROJECT}/ended")),
    "it begins with event 2": lambda db: db.timeline.lpop(key("timeline", f"{PROJECT}/ended")),
    r"sequences \[1\] in front of a gap": lose_second,
    "its timeline tells": lambda db: db.execution.hset(key("task", NAME), "retry", 1),
    "it came from": lambda db: db.execution.hset(key("task", f"{PROJECT}/flies"), "origin", "RETRYING"),
    "'redo' is": lambda db: db.execution.hset(key("task", NAME), "redo", 1),
    "config .*: its task is gone": lambda db: db.config.hset(
        key("config", f"{PROJECT}/gone"), "request", "x"
    ),
    "looked at": lambda db: db.execution.zadd(key("due"), {f"{PROJECT}/default": 5}),
    "empty, and looked at": lambda db: db.execution.zadd(key("due"), {f"{PROJECT}/other": 5}),
    "nothing will sweep it": lambda db: db.execution.zadd(key("index", PROJECT), {"gone": 5}),
    "gone before it expires": lambda db: db.execution.zadd(key("ended"), {f"{PROJECT}/gone": 9e15}),
    "taskInQueue is 5": lambda db: db.auth.hset(key("project", PROJECT), "taskInQueue", 5),
    "feed .*: it ends with event": lambda db: db.auth.hincrby(key("project", PROJECT), "events", 1),
    "feed .*: event 5 follows event 2": lambda db: db.timeline.xdel(key("feed", PROJECT), "4-0"),
    "'seq' is 0, with a timeline": lambda db: db.timeline.rpush(
        key("timeline", NAME), event(1, "SUBSCRIBED")
    ),
    "task .*/waits: its project's feed tells": lambda db: db.execution.hset(key("task", NAME), "create", 5),
    "task .*/ended: its project's feed tells": lambda db: db.timeline.lset(
        key("timeline", f"{PROJECT}/ended"), 0, event(1, "SUBSCRIBED")
    ),
    "gone, with live tasks": lambda db: db.auth.delete(key("project", PROJECT)),
}


def event(sequence: int, kind: str, **more: int) -> str:
    fields = {"n": sequence, "t": 9_000_000_000_000, **more}
    return "{" + f'"e":"{kind}",' + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


@pytest.fixture
async def healthy(ports: Ports) -> Ports:
    """A store with a waiting task, one in flight and one that has ended."""
    flies = spec("flies", schedule=Schedule(delay_ms=0))
    await ports.subscribe(spec("ended"), flies)
    claims = {claim.task_id: claim for claim in await ports.claim()}
    await ports.report(claims["ended"].lease, Trigger.COMPLETE)
    await ports.subscribe(spec("waits", schedule=Schedule(delay_ms=HOUR_MS)))
    return ports


@pytest.mark.one_server
@pytest.mark.parametrize("sentence", DAMAGES)
async def test_damage_is_found(healthy: Ports, sentence: str) -> None:
    invariants.check(healthy.url, 4, CAP)

    DAMAGES[sentence](Databases(healthy.url))

    with pytest.raises(AssertionError, match=sentence):
        invariants.check(healthy.url, 4, CAP)
    await healthy.client.flushall()


@pytest.mark.parametrize(
    ("kinds", "fault"),
    [
        (["SUBSCRIBED", "SUBSCRIBED"], "not the first"),
        (["SUBSCRIBED", "DISPATCHED", "DISPATCHED"], "the task was DISPATCHING"),
        (["SUBSCRIBED", "SUCCEEDED", "COMPLETED"], "the task was SCHEDULED"),
        (["SUBSCRIBED", "DISPATCHED", "SUCCEEDED"], "nothing follows"),
        (["SUBSCRIBED", "DISPATCHED", "SUCCEEDED", "RETRY_SCHEDULED"], "no error came before"),
        (["SUBSCRIBED", "DISPATCHED", "ERRORED", "REPEAT_SCHEDULED"], "no success came before"),
        (["SUBSCRIBED", "DISPATCHED", "PAUSED"], "the task was DISPATCHING"),
        (["SUBSCRIBED", "RESUMED"], "the task was SCHEDULED"),
        (["SUBSCRIBED", "RECOVERED"], "the task was SCHEDULED"),
        (["SUBSCRIBED", "COMPLETED"], "its last answer none"),
        (["SUBSCRIBED", "DISPATCHED", "EXPIRED"], "the task was DISPATCHING"),
    ],
)
def test_an_impossible_timeline_is_found(kinds: list[str], fault: str) -> None:
    events = [{"n": n, "t": n, "e": kind, "a": 1} for n, kind in enumerate(kinds, start=1)]

    assert any(fault in found for found in timelines.tell(events).faults)


def test_a_timeline_must_not_go_back_in_time() -> None:
    events = [{"n": 1, "t": 5}, {"n": 2, "t": 4}]

    assert timelines.sequence_faults(events, 2, CAP) == ["times go back: [5, 4]"]


@pytest.mark.parametrize(
    ("numbers", "fault"),
    [
        ([1, *range(6, 12)], "events behind a gap"),
        ([1, *range(4, 24)], "events behind a gap"),
        ([1, 2, *range(5, 24)], "in front of a gap"),
        ([2, *range(5, 24)], "in front of a gap"),
        (list(range(5, 24)), "it begins with event 5"),
    ],
)
def test_a_long_timeline_has_its_beginning_and_enough_of_its_end(numbers: list[int], fault: str) -> None:
    def faults(numbers: list[int]) -> list[str]:
        return timelines.sequence_faults([{"n": n, "t": 1} for n in numbers], numbers[-1], cap=20)

    assert not faults([1, *range(5, 24)])
    assert not faults([1, *range(6, 24)])
    assert any(fault in found for found in faults(numbers))


async def test_every_state_is_consistent(ports: Ports) -> None:
    for state in TaskState:
        await drive(ports, state)

    invariants.check(ports.url, 4, CAP)
