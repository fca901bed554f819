"""Where due tasks were left because there was no room for them here: to be looked at when there is."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from kuueri_grpc.ports import ClaimBatch


class LeftTasks:
    """What claims have left, by partition: in full lanes, of projects beyond their share, suspects.

    It also knows how far into the index of a partition everything was left, so that the next claim begins
    there. That holds until there is room again for something of it.
    """

    def __init__(self) -> None:
        self._lanes: set[int] = set()
        self._projects: dict[int, set[str]] = {}
        #: In the order of their turns.
        self._suspects: dict[int, None] = {}
        self._passed: dict[int, int] = {}

    @property
    def projects(self) -> bool:
        """Whether tasks of projects beyond their share were left."""
        return bool(self._projects)

    def passed(self, partitions: Iterable[int], suspect_from: int | None) -> Mapping[int, int]:
        """Return where claims may begin, by partition; not for one that may give a suspect which was left."""
        if not self._passed:
            return {}
        found = {p: self._passed[p] for p in partitions if p in self._passed}
        if suspect_from in self._suspects:
            found.pop(suspect_from, None)
        return found

    def note(self, batch: ClaimBatch, *, began_at: int | None, gave_suspects: bool) -> None:
        """Note what a claim has left. `began_at`: what `passed` said of its partition; None: nothing."""
        partition = batch.partition
        if batch.left_lanes:
            self._lanes.add(partition)
        if batch.left_projects:
            self._projects.setdefault(partition, set()).update(batch.left_projects)
        was_asked = batch.passed is not None  # or its part of the store does not serve
        if was_asked and (gave_suspects or (began_at is None and not batch.left_suspects)):
            self._suspects.pop(partition, None)
        if batch.left_suspects:
            self._suspects[partition] = None  # behind the others, if it had its turn
        # While it was under way there may have been room again for something before the place where it began:
        # it has not seen that, and the next one is to.
        if batch.passed is not None and (began_at is None or began_at == self._passed.get(partition)):
            self._passed[partition] = batch.passed

    def forget(self) -> None:
        """Begin everywhere at the beginning again."""
        self._passed.clear()

    def in_lanes(self) -> Sequence[int]:
        """Return where something was left in a lane, which has room now: it is left no more."""
        return self._look_again(list(self._lanes), self._lanes.discard)

    def with_a_share(self, has_share: Callable[[str], bool]) -> Sequence[int]:
        """Return where something of projects was left that have a share now: it is left no more."""
        partitions = [p for p, projects in self._projects.items() if any(map(has_share, projects))]
        return self._look_again(partitions, self._projects.pop)

    def suspect_from(self, partitions: Sequence[int]) -> int | None:
        """Return which of the partitions is to give a suspect."""
        return next((p for p in self._suspects if p in partitions), partitions[0] if partitions else None)

    def first_suspect(self) -> int | None:
        """Return where to look for a suspect; None: none was left."""
        return next(iter(self._suspects), None)

    def _look_again(self, partitions: list[int], drop: Callable[[int], object]) -> Sequence[int]:
        for partition in partitions:
            drop(partition)
            self._passed.pop(partition, None)
        return partitions
