"""What operators are told of claims: how many tasks, and what else the store did."""

import logging
from collections.abc import Sequence

from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.ports import ClaimBatch, LostAttempt, Telemetry

_log = logging.getLogger(__name__)

_WHY_AGAIN = {
    Reason.LEASE_LOST: "whoever had it let its lease run out",
    Reason.HANDED_BACK: "the store's answer that gave it to this server was lost",
}


def tell_claimed(batches: Sequence[ClaimBatch], telemetry: Telemetry) -> None:
    """Count and log what a claim came to."""
    telemetry.claimed(sum(len(batch.claims) for batch in batches))
    for batch in batches:
        if batch.poisoned:
            telemetry.tasks_poisoned(len(batch.poisoned))
        if batch.expired:
            telemetry.tasks_expired(batch.expired)
        if batch.unreadable:
            telemetry.tasks_unreadable(len(batch.unreadable))
        for attempt in batch.recovered:
            telemetry.attempts_recovered(1, attempt.reason)
            _log.warning(
                "an attempt runs again: %s",
                _WHY_AGAIN[attempt.reason],
                extra=_fields(attempt, "attempt_recovered"),
            )
        for attempt in batch.poisoned:
            _log.error(
                "a task was given up: too many workers that ran it were lost",
                extra=_fields(attempt, "task_poisoned"),
            )


def _fields(attempt: LostAttempt, event: str) -> dict[str, object]:
    """Return what a log line says of a lost attempt."""
    return {
        "event": event,
        "project": attempt.project_id,
        "task": attempt.task_id,
        "attempt": attempt.attempt,
    }
