"""Which queues have series of their own: there are as many queues as tenants like, and a series costs."""

#: Queues with series of their own, per registry.
MAX_QUEUES = 50

Labels = tuple[str, str]

#: What all other queues are counted under: no project has this id.
OTHER: Labels = ("other", "other")


class QueueLabels:
    """The first queues keep the labels they are given; all that come later share one pair.

    First come, first served, and for good: a series that moved from one pair to the other would go
    backwards.
    """

    def __init__(self, limit: int = MAX_QUEUES) -> None:
        self._limit = limit
        self._known: dict[Labels, Labels] = {}

    def of(self, project_id: str, queue: str) -> Labels:
        """Return the labels `project` and `queue` that a queue is counted under."""
        key = (project_id, queue)
        labels = self._known.get(key)
        if labels is not None:
            return labels
        if key == OTHER or len(self._known) >= self._limit:
            return OTHER
        self._known[key] = key
        return key
