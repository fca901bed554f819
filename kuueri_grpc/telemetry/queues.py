"""Which queues have series of their own: there are as many queues as tenants like, and a series costs."""

from collections import Counter

#: Queues with series of their own, per registry.
MAX_QUEUES = 100
#: Those of one project, if it were alone.
_LARGEST_SHARE = 10

Labels = tuple[str, str]

#: What all other queues are counted under: no project has this id.
OTHER: Labels = ("other", "other")


class QueueLabels:
    """Queues that come early keep the labels they are given; those that come later share one pair.

    That is for good: a series that moved from one pair to the other would go backwards. The more queues a
    project has here, the more room has to be left for it to get another one: the last places are for projects
    that have none.
    """

    def __init__(self, limit: int = MAX_QUEUES) -> None:
        self._limit = limit
        self._known: dict[Labels, Labels] = {}
        self._by_project: Counter[str] = Counter()

    def of(self, project_id: str, queue: str) -> Labels:
        """Return the labels `project` and `queue` that a queue is counted under."""
        key = (project_id, queue)
        labels = self._known.get(key)
        if labels is not None:
            return labels
        if key == OTHER or not self._has_room(project_id):
            return OTHER
        self._known[key] = key
        self._by_project[project_id] += 1
        return key

    def _has_room(self, project_id: str) -> bool:
        left = self._limit - len(self._known)
        return left * _LARGEST_SHARE > self._limit * self._by_project[project_id]
