"""Claims that were asked for and never answered: the store may have made them all the same."""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator

#: So many are remembered of a partition. Those of further ones run out, as the leases of a lost process do.
_MOST = 20


class UnansweredClaims:
    """By partition, the claims of this process whose answers never came. The next one gives them back."""

    def __init__(self) -> None:
        self._ids: defaultdict[int, list[str]] = defaultdict(list)

    def told_with(self, partition: int) -> str:
        """Return what to tell `claim.lua` of a partition: claim ids, separated by blanks."""
        return " ".join(self._ids[partition]) if partition in self._ids else ""

    def answered(self, partition: int) -> None:
        """A claim was answered: it was told of those before."""
        self._ids.pop(partition, None)

    def note(self, partition: int, claim_id: str) -> None:
        """A claim was not answered."""
        if len(self._ids[partition]) < _MOST:
            self._ids[partition].append(claim_id)

    @contextlib.contextmanager
    def noted(self, partitions: Iterable[int], claim_id: str) -> Iterator[None]:
        """Note the claim for all partitions if the block, which makes it, does not come to its end."""
        try:
            yield
        except BaseException:
            for partition in partitions:
                self.note(partition, claim_id)
            raise
