"""The metrics of several processes as those of one."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from kuueri_grpc.domain.outcome import Outcome, answered
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.telemetry.merge import Merged, parse
from kuueri_grpc.telemetry.metrics import MetricsTelemetry, new_registry
from kuueri_grpc.telemetry.queues import QueueLabels


def text_of(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def value(merged: Merged, name: str, **labels: str) -> float | None:
    found = [
        sample.value
        for metric in merged.collect()
        for sample in metric.samples
        if sample.name == name and sample.labels == labels
    ]
    assert len(found) <= 1
    return found[0] if found else None


def worker(attempts: int, in_flight: int) -> str:
    registry = CollectorRegistry()
    Counter("kuueri_attempts", "Text.", ["outcome"], registry=registry).labels("SUCCEEDED").inc(attempts)
    Gauge("kuueri_attempts_in_flight", "Text.", registry=registry).set(in_flight)
    Gauge("kuueri_build_info", "Text.", ["version"], registry=registry).labels("1.0").set(1)
    Gauge("process_open_fds", "Text.", registry=registry).set(10 * attempts)
    seconds = Histogram("kuueri_wait_seconds", "Text.", buckets=(1, 5), registry=registry)
    for _ in range(attempts):
        seconds.observe(3)
    return text_of(registry)


def test_one_process_is_as_it_was() -> None:
    registry = CollectorRegistry()
    telemetry = MetricsTelemetry(registry)
    telemetry.attempt_ended("p", "q", answered(200, 30), 12)
    telemetry.attempt_ended("p", "q", Outcome(99, reason=Reason.TIMEOUT), 1_200)
    telemetry.call_ended("TaskService/GetTask", "NOT_FOUND", 0.003)
    telemetry.store_failed("claim", "timeout")
    text = text_of(registry)
    merged = Merged(QueueLabels()).add(parse(text), "1", alive=True)
    before = sorted(line for line in text.splitlines() if not line.startswith("#"))
    after = sorted(line for line in generate_latest(merged).decode().splitlines() if not line.startswith("#"))
    assert after == before


def test_counters_histograms_and_gauges_of_the_service_are_summed() -> None:
    merged = Merged(QueueLabels())
    merged.add(parse(worker(2, 5)), "1", alive=True).add(parse(worker(3, 7)), "2", alive=True)
    assert value(merged, "kuueri_attempts_total", outcome="SUCCEEDED") == 5
    assert value(merged, "kuueri_attempts_in_flight") == 12
    assert value(merged, "kuueri_wait_seconds_bucket", le="1.0") == 0
    assert value(merged, "kuueri_wait_seconds_bucket", le="5.0") == 5
    assert value(merged, "kuueri_wait_seconds_sum") == 15
    assert value(merged, "kuueri_wait_seconds_count") == 5


def test_what_is_the_same_everywhere_is_not_summed() -> None:
    merged = Merged(QueueLabels())
    merged.add(parse(worker(1, 1)), "1", alive=True).add(parse(worker(1, 1)), "2", alive=True)
    assert value(merged, "kuueri_build_info", version="1.0") == 1


def test_metrics_of_processes_stay_apart() -> None:
    merged = Merged(QueueLabels())
    merged.add(parse(worker(1, 1)), "1", alive=True).add(parse(worker(2, 1)), "2", alive=True)
    assert value(merged, "process_open_fds", worker="1") == 10
    assert value(merged, "process_open_fds", worker="2") == 20


def test_of_the_dead_only_counts_remain() -> None:
    merged = Merged(QueueLabels())
    merged.add(parse(worker(2, 5)), "1", alive=False).add(parse(worker(3, 7)), "1", alive=True)
    assert value(merged, "kuueri_attempts_total", outcome="SUCCEEDED") == 5
    assert value(merged, "kuueri_attempts_in_flight") == 7
    assert value(merged, "process_open_fds", worker="1") == 30


def test_a_copy_goes_its_own_way() -> None:
    merged = Merged(QueueLabels()).add(parse(worker(2, 5)), "1", alive=True)
    merged.copy().add(parse(worker(3, 7)), "2", alive=True)
    assert value(merged, "kuueri_attempts_total", outcome="SUCCEEDED") == 2


def test_queues_are_bounded_over_all_processes() -> None:
    merged = Merged(QueueLabels(limit=3))
    for name, queues in (("1", ("a", "b")), ("2", ("b", "c", "d"))):
        registry = CollectorRegistry()
        telemetry = MetricsTelemetry(registry)
        for queue in queues:
            telemetry.attempt_ended("p", queue, answered(200, 1), 1_000)
        merged.add(parse(text_of(registry)), name, alive=True)
    counted = {
        (sample.labels["queue"], sample.value)
        for metric in merged.collect()
        for sample in metric.samples
        if sample.name == "kuueri_queue_attempts_total"
    }
    assert counted == {("a", 1), ("b", 2), ("c", 1), ("other", 1)}
    assert value(merged, "kuueri_queue_lateness_seconds_sum", project="other", queue="other") == 1


def test_a_registry_has_the_process_and_the_version() -> None:
    merged = Merged(QueueLabels()).add(parse(text_of(new_registry("1.2.3"))), "1", alive=True)
    assert value(merged, "kuueri_build_info", version="1.2.3") == 1
    memory = value(merged, "process_resident_memory_bytes", worker="1")
    assert memory is not None
    assert memory > 0
