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
    kept = {labels.of(f"p{p}", f"queue-{n}") for n in range(100) for p in range(10 * MAX_QUEUES)}
    assert len(kept) == MAX_QUEUES + 1 == 101


def test_one_project_does_not_take_all_places() -> None:
    labels = QueueLabels()
    mine = {labels.of("greedy", f"queue-{n}") for n in range(10 * MAX_QUEUES)} - {OTHER}
    assert len(mine) == 10
    for n in range(MAX_QUEUES - 10):
        assert labels.of(f"late-{n}", "default") == (f"late-{n}", "default")
    assert labels.of("too-late", "default") == OTHER


def test_the_last_places_are_for_those_who_have_none() -> None:
    labels = QueueLabels()
    kept = [{labels.of(f"p{p}", f"queue-{n}") for n in range(10)} - {OTHER} for p in range(MAX_QUEUES)]
    counts = [len(queues) for queues in kept]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 10
    assert counts.count(1) >= 10
