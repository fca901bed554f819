"""Where the admin endpoint listens, and what it says of being ready. Light, for whoever may do without it."""

from dataclasses import dataclass
from pathlib import Path

#: Where to listen: a host and a port (0 picks a free one), or a unix socket.
AdminAddress = tuple[str, int] | Path


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether calls should be sent here; each reason says why not. No reasons: ready."""

    reasons: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        """True when there is no reason against it."""
        return not self.reasons
