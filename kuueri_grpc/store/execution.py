"""The `ExecutionStore` port: due tasks, leases, reports."""

import asyncio
import itertools
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from kuueri_grpc.domain.decision import Decision
from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.ports import (
    ANY_ROOM,
    Claim,
    ClaimBatch,
    Lease,
    LostAttempt,
    Renewal,
    Report,
    Room,
)
from kuueri_grpc.store import codec, keys
from kuueri_grpc.store.arguments import lease_arguments, report_arguments, room_arguments
from kuueri_grpc.store.clock import PartitionClocks, StoreClock
from kuueri_grpc.store.interruptions import Interruptions
from kuueri_grpc.store.key_registry import KeyRegistry
from kuueri_grpc.store.scripts import Argument, ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.unanswered import UnansweredClaims
from kuueri_grpc.store.vault import Vault

_log = logging.getLogger(__name__)

_Item = TypeVar("_Item")
#: A claimed row (see `lua/claim.lua`), and why it cannot be read.
_Unreadable = tuple[Sequence[Any], codec.CorruptRecord]

#: Reports, or leases given back, in one script call: long calls hold up every other client of the store.
_LEASE_CHUNK = 100
#: Leases that one script call renews.
_RENEW_CHUNK = 200
#: Expired histories that one sweep of a partition takes out of the indexes.
_SWEEP_CHUNK = 200
#: Bytes of requests that are opened without letting others have their turn.
_OPENED_AT_ONCE = 1 << 19
#: Said of a lease whose task has FAILED, as its record is damaged; see `lua/lib_unreadable.lua`.
_DAMAGED = 2


class RedisExecutionStore:
    """`ports.ExecutionStore` on the scripts."""

    def __init__(
        self,
        runner: ScriptRunner,
        settings: StoreSettings,
        clock: StoreClock,
        vault: Vault,
        registry: KeyRegistry,
    ) -> None:
        self._runner = runner
        self._settings = settings
        self._clock = clock
        self._vault = vault
        self._registry = registry
        self._clocks = PartitionClocks(clock, settings.partitions, one_server=runner.one_server)
        self._interruptions = Interruptions(settings.regain_ms)
        # A claim id is never used twice: random per process, counted within it.
        self._run_id = secrets.token_urlsafe(6)
        self._claim_count = itertools.count(1)
        self._unanswered = UnansweredClaims()

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

    async def claim(
        self,
        limits: Mapping[int, int],
        instance: str,
        lease_ms: int,
        room: Room = ANY_ROOM,
    ) -> list[ClaimBatch]:
        """See `ports.ExecutionStore`."""
        claim_id = f"{self._run_id}.{next(self._claim_count)}"
        batches = await self._look_at_unserved(limits)
        held_up = {batch.partition for batch in batches}
        calls: list[tuple[int, Sequence[Argument]]] = []
        room_of = room_arguments(limits, room, self.partitions)
        for partition in (p for p in limits if p not in held_up):
            if wait_ms := self._interruptions.wait_ms(partition):
                batches.append(self._nothing_before(partition, wait_ms))
                continue
            waits_until = self._clocks.after(partition, self._settings.call_timeout_ms)
            common = (lease_ms, instance, claim_id, self._settings.max_losses, waits_until or "")
            told = (self._unanswered.told_with(partition), 1 if partition == room.suspect_from else "")
            calls.append((partition, (limits[partition], *common, *told, *room_of[partition])))
        with self._unanswered.noted([partition for partition, _ in calls], claim_id):
            answers = await self._each("claim", calls)
        for (partition, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, StoreUnavailable):
                self._unanswered.note(partition, claim_id)
                batches.append(self._nothing_before(partition, self._interruptions.began(partition)))
            else:
                self._unanswered.answered(partition)
                self._clocks.observe(partition, answer[0])
                batches.append(await self._batch(partition, answer))
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

    async def _batch(self, partition: int, answer: Any) -> ClaimBatch:
        now_ms, next_due_ms, rows, flat_secrets, recovered, poisoned, expired, *rest = answer
        left_lanes, left_suspects, damaged, left_projects, left_bytes, passed, next_chore_ms = rest
        ahead_ms = now_ms - self._clocks.on_engine(partition, now_ms)
        pairs = iter(flat_secrets)
        signing = dict(zip(pairs, pairs, strict=True))
        claims, unreadable, opened = [], [], 0
        for row in rows:
            if opened > _OPENED_AT_ONCE:
                opened = 0
                await asyncio.sleep(0)
            opened += len(row[-2] or b"")
            try:
                claims.append(self._claim(row, signing[row[0]], now_ms, ahead_ms))
            except codec.CorruptRecord as error:
                unreadable.append((row, error))
        return ClaimBatch(
            partition,
            claims,
            next_due_ms - ahead_ms if next_due_ms >= 0 else None,
            recovered=[
                LostAttempt(*_task_name(name), attempt, Reason(reason.decode()))
                for name, attempt, reason in zip(*[iter(recovered)] * 3, strict=True)
            ],
            poisoned=[
                LostAttempt(*_task_name(name), attempt, Reason.POISON)
                for name, attempt in zip(*[iter(poisoned)] * 2, strict=True)
            ],
            expired=expired,
            unreadable=[
                *(_tell_damaged(*_task_name(name)) for name in damaged),
                *(await self._give_up(unreadable) if unreadable else ()),
            ],
            left_lanes=left_lanes == 1,
            left_suspects=left_suspects == 1,
            left_projects=[project.decode() for project in left_projects],
            left_bytes=left_bytes == 1,
            next_chore_ms=next_chore_ms - ahead_ms if next_chore_ms >= 0 else None,
            passed=passed,
        )

    def _claim(self, row: Sequence[Any], signing: bytes, now_ms: int, ahead_ms: int) -> Claim:
        project, task, queue, token, attempt, retry_count, repeat_count, run_start, due, create, *more = row
        lane, watch_ms, request, policy = more
        project_id, task_id = project.decode(), task.decode()
        timeout_ms, _, retry, repeat = codec.unpack_policy(policy)
        return Claim(
            project_id=project_id,
            task_id=task_id,
            queue=queue.decode(),
            token=token.decode(),
            attempt=attempt,
            retry_count=retry_count,
            repeat_count=repeat_count,
            run_start_ms=run_start - ahead_ms,
            schedule_time_ms=due,
            create_time_ms=create,
            timeout_ms=timeout_ms,
            target=self._vault.open_request(project_id, task_id, request),
            retry=retry,
            repeat=repeat,
            signing_secrets=self._vault.live_signing(project_id, signing, now_ms),
            lane=int(lane) if lane else None,
            # An instant before the task was made is its schedule time all the same.
            due_ms=max(due, create) - ahead_ms,
            size=len(request),
            watch_ms=watch_ms,
        )

    async def _give_up(self, rows: Sequence[_Unreadable]) -> list[tuple[str, str]]:
        """End claimed tasks that nobody can read; return which. The others are not kept waiting for them.

        What another instance may read is left to it: the lease runs out.
        """
        ending = []
        for row, error in rows:
            left = await self._others_can_read(error)
            _log.error(
                "a due task is %s: %s",
                "left to others" if left else "given up",
                error,
                extra={"event": "task_unreadable", "project": row[0].decode(), "task": row[1].decode()},
            )
            if not left:
                ending.append((row, str(error)))
        reports = [
            Report(
                Lease(row[0].decode(), row[1].decode(), row[3].decode()),
                Outcome(0, reason=Reason.UNREADABLE, detail=detail),
                Decision(Trigger.FAIL, reason=Reason.UNREADABLE),
            )
            for row, detail in ending
        ]
        try:
            applied = await self.report(reports)
        except StoreUnavailable:
            return []  # met again when the leases have run out
        leases = (report.lease for report in reports)
        return [
            (lease.project_id, lease.task_id) for lease, done in zip(leases, applied, strict=True) if done
        ]

    async def _others_can_read(self, error: codec.CorruptRecord) -> bool:
        if isinstance(error, codec.KeyElsewhere):
            try:
                return await self._registry.is_in_use(error.key_id)
            except StoreUnavailable:
                return True  # for all that is known
        return isinstance(error, codec.ForeignRecord)

    async def renew(self, leases: Sequence[Lease], lease_ms: int) -> Renewal:
        """See `ports.ExecutionStore`."""
        by_partition = self._by_partition(leases, lambda lease: lease.project_id)
        chunks = [
            (p, held[start : start + _RENEW_CHUNK])
            for p, held in by_partition.items()
            for start in range(0, len(held), _RENEW_CHUNK)
        ]
        calls = [
            (p, (lease_ms, len(held), *itertools.chain.from_iterable(map(lease_arguments, held))))
            for p, held in chunks
        ]
        renewal = Renewal([], [])
        for (_, asked), answer in zip(chunks, await self._each("renew", calls), strict=True):
            if not isinstance(answer, StoreUnavailable):
                lost = {asked[place - 1] for place in answer}
                renewal.lost.extend(lost)
                renewal.held.extend(lease for lease in asked if lease not in lost)
        return renewal

    async def report(self, reports: Sequence[Report]) -> list[bool | None]:
        """See `ports.ExecutionStore`."""
        return await self._apply("report", [(report.lease, report_arguments(report)) for report in reports])

    async def _each(self, name: str, calls: Sequence[tuple[int, Sequence[Argument]]]) -> list[Any]:
        """Run a script on partitions; note those of a cluster that could not be asked."""
        answers = await self._runner.run_each(name, calls)
        for (partition, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, StoreUnavailable):
                self._interruptions.began(partition)
        return answers

    async def release(self, leases: Sequence[Lease]) -> list[bool | None]:
        """See `ports.ExecutionStore`."""
        return await self._apply("release", [(lease, lease_arguments(lease)) for lease in leases])

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
                    applied[place] = was_applied >= 1
                    if was_applied == _DAMAGED:
                        _ = _tell_damaged(items[place][0].project_id, items[place][0].task_id)
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


def _task_name(name: bytes) -> tuple[str, str]:
    project, _, task = name.decode().partition("/")
    return project, task


def _tell_damaged(project_id: str, task_id: str) -> tuple[str, str]:
    """Log that a script has ended a task; return the task."""
    _log.error(
        "a task is given up: its record is damaged",
        extra={"event": "task_unreadable", "project": project_id, "task": task_id},
    )
    return project_id, task_id
