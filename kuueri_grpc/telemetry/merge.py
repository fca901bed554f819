"""The metrics of several processes as those of one."""

from collections.abc import Iterable
from typing import Self

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from kuueri_grpc.telemetry.queues import QueueLabels

#: Gauges that are the same in every process.
_SAME_EVERYWHERE = frozenset({"kuueri_build_info"})
_OWN = "kuueri_"

_Labels = tuple[tuple[str, str], ...]


class Merged:
    """What was added, taken together. A collector, for the encoders of the client library.

    Counters, histograms and summaries are summed. So are the gauges of this project: each counts things
    that are in one process at a time. Metrics of the processes as such (CPU, memory) stay apart, by a label
    `worker`. `queues` holds over all processes what each of them holds by itself: a bound on series.
    """

    def __init__(self, queues: QueueLabels) -> None:
        self._queues = queues
        self._types: dict[str, tuple[str, str]] = {}
        self._values: dict[str, dict[tuple[str, _Labels], float]] = {}

    def copy(self) -> "Merged":
        """Return one that has what this has, and can be added to."""
        other = Merged(self._queues)
        other._types = dict(self._types)
        other._values = {name: dict(values) for name, values in self._values.items()}
        return other

    def add(self, metrics: Iterable[Metric], worker: str, *, alive: bool) -> Self:
        """Take in the metrics of a process. Of one that is not alive, what it counted is all that is left."""
        for metric in metrics:
            own = metric.name.startswith(_OWN)
            if not alive and (metric.type == "gauge" or not own):
                continue
            self._types.setdefault(metric.name, (metric.type, metric.documentation))
            values = self._values.setdefault(metric.name, {})
            for sample in metric.samples:
                labels = self._bounded(sample.labels) if own else {**sample.labels, "worker": worker}
                key = (sample.name, tuple(labels.items()))
                if metric.name in _SAME_EVERYWHERE:
                    values[key] = sample.value
                else:
                    values[key] = values.get(key, 0) + sample.value
        return self

    def _bounded(self, labels: dict[str, str]) -> dict[str, str]:
        if "queue" not in labels:
            return labels
        project, queue = self._queues.of(labels["project"], labels["queue"])
        return {**labels, "project": project, "queue": queue}

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        for name, (kind, documentation) in self._types.items():
            metric = Metric(name, documentation, kind)
            for (sample, labels), value in self._values[name].items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


def parse(text: str) -> list[Metric]:
    """Return the metrics in an answer of `/metrics` in Prometheus's text format.

    Raises:
        ValueError: it is not in that format, or has series that `Merged` cannot take.
    """
    try:
        metrics = list(text_string_to_metric_families(text))
    except Exception as error:  # noqa: BLE001  the parser has no error of its own
        raise ValueError(f"not in the text format of metrics ({type(error).__name__})") from None
    for metric in metrics:
        for sample in metric.samples:
            if "queue" in sample.labels and "project" not in sample.labels:
                raise ValueError(f"{sample.name} has a queue and no project")
    return metrics
