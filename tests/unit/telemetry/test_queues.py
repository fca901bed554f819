"""Series per queue are bounded, and a queue keeps the series that it has."""

from kuueri_grpc.telemetry.queues import MAX_QUEUES, OTHER, QueueLabels


def test_the_first_queues_have_labels_of_their_own() -> None:
    labels = QueueLabels(limit=2)
    assert labels.of("p", "a") == ("p", "a")
    assert labels.of("q", "a") == ("q", "a")
    assert labels.of("p", "b") == OTHER


def test_what_a_queue_was_counted_under_stays() -> None:
    labels = QueueLabels(limit=1)
    for _ in range(2):
        assert labels.of("p", "early") == ("p", "early")
        assert labels.of("p", "late") == OTHER


def test_a_project_called_other_takes_nobodys_place() -> None:
    labels = QueueLabels(limit=1)
    assert labels.of(*OTHER) == OTHER
    assert labels.of("p", "a") == ("p", "a")


def test_the_bound_by_default() -> None:
    labels = QueueLabels()
    kept = {labels.of("p", f"queue-{n}") for n in range(10 * MAX_QUEUES)}
    assert len(kept) == MAX_QUEUES + 1 == 51
