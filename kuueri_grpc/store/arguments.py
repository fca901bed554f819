"""What scripts are told of leases, reports and room: their arguments, in the order of their headers."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

from kuueri_grpc.domain.state import TaskState, Trigger, next_state
from kuueri_grpc.ports import Lease, Report, Room
from kuueri_grpc.store import keys
from kuueri_grpc.store.scripts import Argument

_What = TypeVar("_What")

#: "As many as there are": more than a claim could give.
_ANY_NUMBER, _ANY_SIZE = 1 << 31, 1 << 50


def room_arguments(asked: Iterable[int], room: Room, partitions: int) -> dict[int, list[Argument]]:
    """Return what `claim.lua` is told of the room: for each partition that is asked, of its own projects."""
    shares = _by_partition(room.shares.items(), partitions)
    full = _by_partition(room.full, partitions)
    share = _ANY_NUMBER if room.share is None else room.share
    arguments: dict[int, list[Argument]] = {}
    for partition in asked:
        here: list[Argument] = [
            room.sizes.get(partition, _ANY_SIZE),
            1 if partition == room.larger_from else "",
            room.passed.get(partition, ""),
            share,
            len(shares.get(partition, ())),
        ]
        for project_id, number in shares.get(partition, ()):
            here += (project_id, number)
        here += (f"{project_id}/{lane}" for project_id, lane in full.get(partition, ()))
        arguments[partition] = here
    return arguments


def _by_partition(
    of_projects: Iterable[tuple[str, _What]], partitions: int
) -> dict[int, list[tuple[str, _What]]]:
    groups: defaultdict[int, list[tuple[str, _What]]] = defaultdict(list)
    for project_id, what in of_projects:
        groups[keys.partition_of(project_id, partitions)].append((project_id, what))
    return groups


def lease_arguments(lease: Lease) -> list[Argument]:
    """Return how a script is told of a lease."""
    return [lease.project_id, lease.task_id, lease.token]


def report_arguments(report: Report) -> list[Argument]:
    """Return how `report.lua` is told of a report."""
    outcome, decision = report.outcome, report.decision
    wait: tuple[str, Argument] = ("", "")
    if decision.at_ms is not None:
        wait = ("at", decision.at_ms)
    elif decision.delay_ms is not None:
        wait = ("in", decision.delay_ms)
    return [
        report.lease.project_id,
        report.lease.task_id,
        report.lease.token,
        "" if outcome.status_code is None else outcome.status_code,
        outcome.latency_ms,
        outcome.reason or "",
        outcome.detail,
        _NEXT_STATE[decision.trigger],
        *wait,
        decision.reason or "",
    ]


#: What a report makes of a DISPATCHING task.
_NEXT_STATE = {
    trigger: next_state(TaskState.DISPATCHING, trigger)
    for trigger in (Trigger.COMPLETE, Trigger.FAIL, Trigger.RETRY, Trigger.REPEAT)
}
