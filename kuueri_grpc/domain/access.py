"""Who calls, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a token may do, and what a call needs. Values are kept in the store."""

    FULL = "FULL"
    SUBSCRIBE = "SUBSCRIBE"
    READ = "READ"

    def allows(self, needed: "Scope") -> bool:
        """Whether a token of this scope may make a call that needs `needed`."""
        return self is Scope.FULL or self is needed


@dataclass(frozen=True, slots=True)
class Access:
    """A caller who was found to hold a valid token.

    `ended`: the token was rotated a moment ago and is good for one thing, to repeat that rotation.
    """

    project_id: str
    key_id: str
    scope: Scope = Scope.FULL
    ended: bool = False
