"""The metrics of one process: `ports.Telemetry` as Prometheus counters and histograms.

`docs/operations.md` has the table of all metrics, what each means and what to do about it. Every label has
a bounded set of values. The children of labelled metrics are looked up in a dictionary: the client
library's own look-up costs more than the counting.
"""
# ruff: noqa: D102  `ports.Telemetry` says what its methods are told

from collections.abc import Iterable
from typing import Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    Summary,
    disable_created_metrics,
)

from kuueri_grpc.domain.outcome import FAILURES, Outcome
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.ports import Telemetry, Throttled, Unfinished
from kuueri_grpc.telemetry.queues import QueueLabels

_Child = TypeVar("_Child", Counter, Histogram, Summary)

#: Bounds of histograms. Of waits for a due task, up to what an outage makes of them (s):
_LATENESS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800)
#: Of attempts, up to the longest timeout that a task may ask for (s).
_ATTEMPT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800)
#: Of calls of clients, and of calls to the store, up to where its client gives up (s).
_CALL_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
#: Values of labels.
_SUCCEEDED, _RENEWED, _REFUSED = "SUCCEEDED", "renewed", "refused"
#: Of claims (tasks).
_CLAIM_TASKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)


class _Children(dict[tuple[str, ...], _Child], Generic[_Child]):
    """The children of a metric by their label values, made when first asked for."""

    def __init__(self, metric: _Child) -> None:
        super().__init__()
        self._metric: _Child = metric

    def prepare(self, *values: str) -> None:
        """Make the children of a metric with one label that have these values."""
        for value in values:
            _ = self[value,]

    def __missing__(self, values: tuple[str, ...]) -> _Child:
        child: _Child = self._metric.labels(*values)
        self[values] = child
        return child


def new_registry(version: str) -> CollectorRegistry:
    """Return a registry with what every process has: its version, CPU, memory and open files."""
    # A series per counter that tells when it was made: nobody looks at them.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    info = Gauge("kuueri_build_info", "1, with the version as a label.", ["version"], registry=registry)
    info.labels(version).set(1)
    return registry


class MetricsTelemetry(Telemetry):
    """Counts and measures what it is told. One per process; methods cost about a microsecond per metric."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=bounds, registry=registry)

        self._calls = _Children(
            counter("kuueri_grpc_calls", "Calls that ended, by method and status code.", "method", "code")
        )
        self._call_seconds = _Children(
            histogram("kuueri_grpc_call_seconds", "Duration of calls, streams left out.", _CALL_S, "method")
        )
        self._accepted = counter("kuueri_tasks_accepted", "Tasks that a Subscribe answered with.")
        self._refused = _Children(
            counter("kuueri_tasks_refused", "Tasks that were not accepted, by reason.", "reason")
        )
        self._expired = counter("kuueri_tasks_expired", "Tasks whose start deadline had passed.")
        self._poisoned = counter("kuueri_tasks_poisoned", "Tasks failed: their leases ran out too often.")
        self._unreadable = counter("kuueri_tasks_unreadable", "Tasks failed: what is kept cannot be read.")
        self._attempts = _Children(
            counter("kuueri_attempts", "Attempts that ended, by what they came to.", "outcome")
        )
        self._late = histogram(
            "kuueri_attempt_lateness_seconds", "From schedule time to the start of the attempt.", _LATENESS_S
        )
        self._duration = histogram(
            "kuueri_attempt_duration_seconds", "From the start of an attempt to its outcome.", _ATTEMPT_S
        )
        self._recovered = _Children(
            counter("kuueri_attempts_recovered", "Attempts given back without an outcome.", "reason")
        )
        self._left = counter("kuueri_attempts_left", "Attempts aborted and neither handed back nor reported.")
        self._claim_tasks = histogram("kuueri_claim_tasks", "Tasks that a claim call gave.", _CLAIM_TASKS)
        self._leases_lost = counter("kuueri_leases_lost", "Leases of attempts in flight that were lost.")
        self._reports_stale = counter("kuueri_reports_stale", "Outcomes refused by their fencing token.")
        self._signals = counter("kuueri_signal_connections", "Connections for signals that were made.")
        self._slow_watches = counter("kuueri_watches_closed_slow", "Watches ended for not keeping up.")
        self._throttled = _Children(
            counter("kuueri_calls_throttled", "Calls refused: there were too many, by what of.", "by")
        )
        self._certificates = _Children(
            counter("kuueri_tls_reloads", "Times that certificates had changed, by result.", "result")
        )
        self._epochs = counter("kuueri_store_epoch_changes", "Times that the store's data was another.")
        self._store_seconds = _Children(
            histogram("kuueri_store_call_seconds", "Duration of calls to the store.", _CALL_S, "operation")
        )
        self._store_errors = _Children(
            counter("kuueri_store_errors", "Calls to the store that failed.", "operation", "kind")
        )
        self._queues = QueueLabels()
        labels = ("project", "queue")
        self._queue_attempts = _Children(
            counter("kuueri_queue_attempts", "Attempts with an outcome, by queue.", *labels, "result")
        )
        self._queue_late = _Children(
            Summary("kuueri_queue_lateness_seconds", "Lateness, by queue.", labels, registry=registry)
        )

        # Series from the start: the first one counts in a rate, too.
        self._attempts.prepare(_SUCCEEDED, *FAILURES, *Unfinished)
        self._recovered.prepare(Reason.LEASE_LOST, Reason.HANDED_BACK)
        self._throttled.prepare(*Throttled)
        self._certificates.prepare(_RENEWED, _REFUSED)

    def prepare(self, methods: Iterable[str], refusals: Iterable[str]) -> None:
        for method in methods:
            _ = self._calls[method, "INTERNAL"]
        self._refused.prepare(*refusals)

    def call_ended(self, method: str, code: str, seconds: float | None) -> None:
        self._calls[method, code].inc()
        if seconds is not None:
            self._call_seconds[method,].observe(seconds)

    def tasks_accepted(self, count: int) -> None:
        self._accepted.inc(count)

    def tasks_refused(self, reason: str, count: int) -> None:
        self._refused[reason,].inc(count)

    def claimed(self, count: int) -> None:
        self._claim_tasks.observe(count)

    def attempts_recovered(self, count: int, reason: Reason) -> None:
        self._recovered[reason,].inc(count)

    def attempts_left(self, count: int) -> None:
        self._left.inc(count)

    def tasks_poisoned(self, count: int) -> None:
        self._poisoned.inc(count)

    def tasks_unreadable(self, count: int) -> None:
        self._unreadable.inc(count)

    def tasks_expired(self, count: int) -> None:
        self._expired.inc(count)

    def attempt_ended(self, project_id: str, queue: str, outcome: Outcome, late_ms: int) -> None:
        self._attempts[outcome.reason or _SUCCEEDED,].inc()
        late = late_ms / 1_000
        self._late.observe(late)
        self._duration.observe(outcome.latency_ms / 1_000)
        labels = self._queues.of(project_id, queue)
        self._queue_attempts[*labels, "failed" if outcome.reason else "succeeded"].inc()
        self._queue_late[labels].observe(late)

    def attempt_unfinished(self, why: Unfinished) -> None:
        self._attempts[why,].inc()

    def lease_lost(self) -> None:
        self._leases_lost.inc()

    def report_stale(self) -> None:
        self._reports_stale.inc()

    def signals_connected(self) -> None:
        self._signals.inc()

    def slow_watch_closed(self) -> None:
        self._slow_watches.inc()

    def call_throttled(self, by: Throttled) -> None:
        self._throttled[by,].inc()

    def certificates_renewed(self) -> None:
        self._certificates[_RENEWED,].inc()

    def certificates_refused(self) -> None:
        self._certificates[_REFUSED,].inc()

    def epoch_changed(self) -> None:
        self._epochs.inc()

    def store_called(self, operation: str, seconds: float) -> None:
        self._store_seconds[operation,].observe(seconds)

    def store_failed(self, operation: str, kind: str) -> None:
        self._store_errors[operation, kind].inc()
