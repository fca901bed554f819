"""Collects every fault of a request, so that all of them are reported at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from kuueri_grpc.domain.errors import KuueriError

#: More faults than a person reads; a request may be made to have millions.
MAX_KEPT = 100
#: Characters of a caller's own text that a message repeats.
SHOWN_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Violation:
    """A fault of one field. `field` is its path in the request, as `tasks[3].http_target.url`.

    `description` says what is wrong, what came and what is expected, and reads on from the field's name.
    """

    field: str
    description: str


class InvalidFields(KuueriError):
    """The request has faults in its fields: `count` of them, the first ones in `violations`."""

    def __init__(self, violations: Sequence[Violation], count: int | None = None) -> None:
        self.violations = tuple(violations)
        self.count = len(self.violations) if count is None else count
        faults = "; ".join(f"{fault.field} {fault.description}" for fault in self.violations)
        super().__init__(faults if self.count == 1 else f"{self.count:,} fields are not valid: {faults}")


class Violations:
    """The faults found so far. Counts them all and keeps the first `MAX_KEPT`.

    `lasting`: whether one of them would be a fault at any time, under all limits and rules of an operator.
    """

    def __init__(self) -> None:
        self._kept: list[Violation] = []
        self._count = 0
        self.lasting = False

    def add(self, field: str, description: str) -> None:
        """Note a fault that is one at any time."""
        self.lasting = True
        self.add_passing(field, description)

    def add_passing(self, field: str, description: str) -> None:
        """Note a fault that depends on the time, or on limits or rules that an operator sets.

        What has no others may have been accepted before.
        """
        self._count += 1
        if self._count <= MAX_KEPT:
            self._kept.append(Violation(field, description))

    def __bool__(self) -> bool:
        return self._count > 0

    def error(self) -> InvalidFields:
        """Return the faults as an error."""
        return InvalidFields(self._kept, self._count)

    def raise_if_any(self) -> None:
        """Raise `InvalidFields` unless no fault was found."""
        if self._kept:
            raise self.error()


def shown(text: str) -> str:
    """Return text of the caller quoted, in ASCII, with everything invisible escaped, and cut short."""
    return ascii(text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 3] + "...")


def entry(field: str, key: str) -> str:
    """Return the path of a map's entry, as `task.labels["team"]`."""
    quoted = shown(key)[1:-1].replace('"', '\\"')
    return f'{field}["{quoted}"]'
