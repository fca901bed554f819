"""Ports: what the process tells its operators as it works, and what the store holds for them to see."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.timeline import Reason


class Unfinished(StrEnum):
    """Why an attempt has no outcome."""

    #: Stopped while in flight: canceled, lease lost, or the server is shutting down.
    ABORTED = "ABORTED"
    #: Its lease had run out before its turn came.
    NOT_SENT = "NOT_SENT"
    #: A fault of this program; the log has it.
    BROKE_DOWN = "BROKE_DOWN"


class Throttled(StrEnum):
    """What there was too much of when a call was refused."""

    #: Calls of a project.
    PROJECT = "PROJECT"
    #: Tokens from one address that are not valid.
    FAILED_AUTHENTICATION = "FAILED_AUTHENTICATION"
    #: Calls of Register from one address.
    REGISTRATION = "REGISTRATION"


class Telemetry:
    """What happens, in the words of what happens. Here nothing comes of it: whoever looks overrides.

    Called on the hot path: no method blocks or raises.
    """

    def prepare(self, methods: Iterable[str], refusals: Iterable[str]) -> None:
        """Name what may be counted by `call_ended` and `tasks_refused`: a first time then counts in a rate.

        A series that appears with 1 has not increased, as far as an alert can see.
        """

    def call_ended(self, method: str, code: str, seconds: float | None) -> None:
        """A client's call ended. `method`: "TaskService/GetTask"; `code`: the canonical status code.

        `seconds` None: the call was a stream, how long it lasted tells nothing.
        """

    def tasks_accepted(self, count: int) -> None:
        """Subscribe answered with `count` tasks (a repeated request_id counts again)."""

    def tasks_refused(self, reason: str, count: int) -> None:
        """`count` tasks were not accepted. `reason`: as the `ErrorInfo` of the answer has it."""

    def claimed(self, count: int) -> None:
        """A claim call ended, with `count` tasks."""

    def attempts_recovered(self, count: int, reason: Reason) -> None:
        """Attempts without an outcome were given back to their queues: their leases had run out, or before.

        `reason`: LEASE_LOST or HANDED_BACK.
        """

    def attempts_left(self, count: int) -> None:
        """Attempts were aborted and neither handed back nor reported: their leases have to run out."""

    def tasks_poisoned(self, count: int) -> None:
        """Tasks ended as FAILED because their leases had run out too often."""

    def tasks_expired(self, count: int) -> None:
        """Tasks ended as EXPIRED: their start deadline had passed before they started."""

    def tasks_unreadable(self, count: int) -> None:
        """Tasks ended as FAILED: what the store keeps of them cannot be read."""

    def attempt_ended(self, project_id: str, queue: str, outcome: Outcome, late_ms: int) -> None:
        """An attempt came to an outcome; it had started `late_ms` after it could have."""

    def attempt_unfinished(self, why: Unfinished) -> None:
        """An attempt came to no outcome."""

    def lease_lost(self) -> None:
        """The lease of an attempt in flight here is nobody's, or somebody else's."""

    def report_stale(self) -> None:
        """The fencing token of an outcome was refused: it changed nothing."""

    def signals_connected(self) -> None:
        """Signals of the store and of other instances arrive from now on."""

    def slow_watch_closed(self) -> None:
        """A watch was ended because its client did not keep up."""

    def call_throttled(self, by: Throttled) -> None:
        """A call was refused: there were too many."""

    def certificates_renewed(self) -> None:
        """Certificates had changed: new connections have the new ones."""

    def certificates_refused(self) -> None:
        """Certificates had changed and cannot be used: those of before stay in force."""

    def epoch_changed(self) -> None:
        """The store's data is not that of before."""

    def store_called(self, operation: str, seconds: float) -> None:
        """The store answered."""

    def store_failed(self, operation: str, kind: str) -> None:
        """The store did not answer, or not with what was asked for. `kind`: a word of a small set."""


#: The default of whatever takes a `Telemetry`.
NO_TELEMETRY = Telemetry()


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the store, of all projects, at one instant of its clock.

    `waiting`: tasks in the queues, due or not (those in flight or paused are in none). `due`: those that
    could be claimed now. `oldest_due_ms`: by how long the one that waits longest is overdue, 0 if none.
    `leased`: attempts in flight, on all instances. `queues`: queues with a task in them. `exact` False:
    so many queues that not all were looked at; `waiting` and `due` are at least that much.
    """

    waiting: int
    due: int
    oldest_due_ms: int
    leased: int
    queues: int
    exact: bool


class BacklogReader(Protocol):
    """Looks at what waits."""

    async def read(self) -> Backlog:
        """Return the backlog; bounded work, whatever waits. Raises `StoreUnavailable`."""
        ...
