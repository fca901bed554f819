"""Metrics that are looked up when somebody asks: how a process stands, and what waits in the store."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Gauge, Metric

from kuueri_grpc.ports import Backlog


def register_gauge(registry: CollectorRegistry, name: str, text: str, read: Callable[[], float]) -> None:
    """Add a gauge whose value is what `read` returns at the moment of a scrape."""
    Gauge(name, text, registry=registry).set_function(read)


def backlog_metrics(backlog: Backlog) -> Iterator[Metric]:
    """Yield the gauges of what waits in the store."""
    for name, text, value in (
        ("kuueri_tasks_waiting", "Tasks in the queues, due or not.", backlog.waiting),
        ("kuueri_tasks_due", "Tasks that could be claimed now.", backlog.due),
        (
            "kuueri_oldest_due_seconds",
            "By how long the task that waits longest is overdue.",
            backlog.oldest_due_ms / 1_000,
        ),
        ("kuueri_attempts_leased", "Attempts in flight on all instances.", backlog.leased),
        ("kuueri_queues_waiting", "Queues with a task in them.", backlog.queues),
        ("kuueri_backlog_exact", "0: waiting and due are lower bounds (many queues).", int(backlog.exact)),
    ):
        yield gauge(name, text, value)


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a gauge with one value."""
    metric = Metric(name, text, "gauge")
    metric.add_sample(name, {}, value)
    return metric


class Gathered:
    """Metrics that were collected already, as the encoders of the client library take them."""

    def __init__(self, *parts: Iterable[Metric]) -> None:
        self._metrics = [metric for part in parts for metric in part]

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        return self._metrics
