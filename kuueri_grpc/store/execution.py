"""The `ExecutionStore` port: due tasks, leases, reports."""

import itertools
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.state import TaskState, Trigger, next_state
from kuueri_grpc.ports import Claim, ClaimBatch, Lease, Renewal, Report
from kuueri_grpc.store import codec, keys
from kuueri_grpc.store.clock import PartitionClocks, StoreClock
from kuueri_grpc.store.interruptions import Interruptions
from kuueri_grpc.store.scripts import Argument, ScriptRunner
from kuueri_grpc.store.settings import StoreSettings

_log = logging.getLogger(__name__)

_Item = TypeVar("_Item")

#: Reports, or leases given back, in one script call: long calls hold up every other client of the store.
_LEASE_CHUNK = 100
#: Expired histories that one sweep of a partition takes out of the indexes.
_SWEEP_CHUNK = 200


class RedisExecutionStore:
    """`ports.ExecutionStore` on the scripts."""

    def __init__(self, runner: ScriptRunner, settings: StoreSettings, clock: StoreClock) -> None:
        self._runner = runner
        self._settings = settings
        self._clock = clock
        self._clocks = PartitionClocks(clock, settings.partitions, one_server=runner.one_server)
        self._interruptions = Interruptions(settings.regain_ms)
        # A claim id is never used twice: random per process, counted within it.
        self._run_id = secrets.token_urlsafe(6)
        self._claim_count = itertools.count(1)

    @property
    def partitions(self) -> int:
        """See `ports.ExecutionStore`."""
        return self._settings.partitions

    async def next_due(self) -> dict[int, int]:
        """See `ports.ExecutionStore`."""
        calls = [(p, ()) for p in range(self.partitions)]
        found: dict[int, int] = {}
        for (partition, _), answer in zip(calls, await self._each("peek", calls), strict=True):
            if isinstance(answer, StoreUnavailable):
                found[partition] = self._clock.now_ms() + self._interruptions.began(partition)
                continue
            now_ms, due_ms = answer
            self._clocks.observe(partition, now_ms)
            if due_ms >= 0:
                found[partition] = self._clocks.on_engine(partition, due_ms)
        return found

    async def claim(self, limits: Mapping[int, int], instance: str, lease_ms: int) -> list[ClaimBatch]:
        """See `ports.ExecutionStore`."""
        claim_id = f"{self._run_id}.{next(self._claim_count)}"
        batches = await self._look_at_unserved(limits)
        held_up = {batch.partition for batch in batches}
        calls: list[tuple[int, Sequence[Argument]]] = []
        for partition in (p for p in limits if p not in held_up):
            if wait_ms := self._interruptions.wait_ms(partition):
                batches.append(self._nothing_before(partition, wait_ms))
                continue
            waits_until = self._clocks.after(partition, self._settings.call_timeout_ms)
            common = (lease_ms, instance, claim_id, self._settings.max_losses, waits_until or "")
            calls.append((partition, (limits[partition], *common)))
        for (partition, _), answer in zip(calls, await self._each("claim", calls), strict=True):
            if isinstance(answer, StoreUnavailable):
                batches.append(self._nothing_before(partition, self._interruptions.began(partition)))
            else:
                self._clocks.observe(partition, answer[0])
                batches.append(_batch(partition, answer, self._clocks))
        return batches

    async def _look_at_unserved(self, partitions: Iterable[int]) -> list[ClaimBatch]:
        """Ask those that did not serve whether they do by now, without claiming: see `Interruptions`."""
        calls = [(p, ()) for p in self._interruptions.unserved(partitions)]
        answers = await self._each("peek", calls) if calls else []
        batches = []
        for (partition, _), answer in zip(calls, answers, strict=True):
            serves = not isinstance(answer, StoreUnavailable)
            look = self._interruptions.ended if serves else self._interruptions.began
            batches.append(self._nothing_before(partition, look(partition)))
        return batches

    def _nothing_before(self, partition: int, wait_ms: int) -> ClaimBatch:
        return ClaimBatch(partition, [], self._clock.now_ms() + wait_ms)

    async def renew(self, leases: Sequence[Lease], lease_ms: int) -> Renewal:
        """See `ports.ExecutionStore`."""
        by_partition = self._by_partition(leases, lambda lease: lease.project_id)
        calls = [
            (p, (lease_ms, len(held), *itertools.chain.from_iterable(map(_lease_arguments, held))))
            for p, held in by_partition.items()
        ]
        renewal = Renewal([], [])
        for asked, answer in zip(by_partition.values(), await self._each("renew", calls), strict=True):
            if not isinstance(answer, StoreUnavailable):
                lost = {asked[place - 1] for place in answer}
                renewal.lost.extend(lost)
                renewal.held.extend(lease for lease in asked if lease not in lost)
        return renewal

    async def report(self, reports: Sequence[Report]) -> list[bool | None]:
        """See `ports.ExecutionStore`."""
        return await self._apply("report", [(report.lease, _report_arguments(report)) for report in reports])

    async def _each(self, name: str, calls: Sequence[tuple[int, Sequence[Argument]]]) -> list[Any]:
        """Run a script on partitions; note those of a cluster that could not be asked."""
        answers = await self._runner.run_each(name, calls)
        for (partition, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, StoreUnavailable):
                self._interruptions.began(partition)
        return answers

    async def release(self, leases: Sequence[Lease]) -> list[bool | None]:
        """See `ports.ExecutionStore`."""
        return await self._apply("release", [(lease, _lease_arguments(lease)) for lease in leases])

    async def _apply(self, name: str, items: Sequence[tuple[Lease, list[Argument]]]) -> list[bool | None]:
        """Run a script on leases, with the arguments of each; return whether each was changed by it."""
        calls: list[tuple[int, Sequence[Argument]]] = []
        places: list[list[int]] = []
        numbered = list(enumerate(items))
        by_partition = self._by_partition(numbered, lambda item: item[1][0].project_id)
        for partition, group in by_partition.items():
            for start in range(0, len(group), _LEASE_CHUNK):
                chunk = group[start : start + _LEASE_CHUNK]
                arguments: list[Argument] = [len(chunk)]
                for _, (_, of_one) in chunk:
                    arguments += of_one
                places.append([place for place, _ in chunk])
                calls.append((partition, arguments))
        applied: list[bool | None] = [None] * len(items)
        for chunk_places, answer in zip(places, await self._each(name, calls), strict=True):
            if not isinstance(answer, StoreUnavailable):
                for place, was_applied in zip(chunk_places, answer, strict=True):
                    applied[place] = was_applied == 1
        return applied

    async def sweep(self) -> None:
        """See `ports.ExecutionStore`."""
        left = list(range(self.partitions))
        while left:
            calls = [(p, (_SWEEP_CHUNK,)) for p in left]
            answers = await self._each("sweep", calls)
            # A full chunk: there may be more. Short scripts, with room for others between them.
            left = [p for (p, _), swept in zip(calls, answers, strict=True) if swept == _SWEEP_CHUNK]

    def _by_partition(
        self, items: Iterable[_Item], project_of: Callable[[_Item], str]
    ) -> dict[int, list[_Item]]:
        groups: defaultdict[int, list[_Item]] = defaultdict(list)
        for item in items:
            groups[keys.partition_of(project_of(item), self.partitions)].append(item)
        return groups


def _batch(partition: int, answer: Any, clocks: PartitionClocks) -> ClaimBatch:
    now_ms, next_due_ms, rows, flat_secrets, recovered, poisoned, expired = answer
    pairs = iter(flat_secrets)
    signing = {project: codec.live_signing(text, now_ms) for project, text in zip(pairs, pairs, strict=True)}
    claims = []
    for row in rows:
        try:
            claims.append(_claim(row, signing[row[0]]))
        except codec.CorruptRecord as error:
            # The others are not kept waiting for it. Its lease runs out: an instance of another version
            # may read it, and if none can, it is parked.
            _log.error("task %s of project %s is left to others: %s", row[1], row[0], error)
    return ClaimBatch(
        partition,
        claims,
        clocks.on_engine(partition, next_due_ms) if next_due_ms >= 0 else None,
        recovered=[_task_name(name) for name in recovered],
        poisoned=[_task_name(name) for name in poisoned],
        expired=expired,
    )


def _task_name(name: bytes) -> tuple[str, str]:
    project, _, task = name.decode().partition("/")
    return project, task


def _claim(row: Sequence[Any], signing_secrets: tuple[str, ...]) -> Claim:
    project, task, queue, token, attempt, retry_count, repeat_count, run_start, due, request, policy = row
    timeout_ms, _, retry, repeat = codec.unpack_policy(policy)
    return Claim(
        project_id=project.decode(),
        task_id=task.decode(),
        queue=queue.decode(),
        token=token.decode(),
        attempt=attempt,
        retry_count=retry_count,
        repeat_count=repeat_count,
        run_start_ms=run_start,
        schedule_time_ms=due,
        timeout_ms=timeout_ms,
        target=codec.unpack_request(request),
        retry=retry,
        repeat=repeat,
        signing_secrets=signing_secrets,
    )


def _lease_arguments(lease: Lease) -> list[Argument]:
    return [lease.project_id, lease.task_id, lease.token]


def _report_arguments(report: Report) -> list[Argument]:
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
