"""Whether this process serves, and if not, why: one state for gRPC health checks, `/readyz` and the log."""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum

_log = logging.getLogger(__name__)


class Part(StrEnum):
    """What has to be in order for a process to serve."""

    STORE = "store"
    SIGNALS = "signals"
    SERVER = "server"


class Health:
    """What is wrong now, by part. A part is in order until a fault of it is reported."""

    def __init__(self) -> None:
        self._faults: dict[Part, str] = {}
        self._in_order = {part: asyncio.Event() for part in Part}
        self._doubts = {part: asyncio.Event() for part in Part}
        for event in self._in_order.values():
            event.set()
        self._listeners: list[Callable[[], None]] = []

    @property
    def serving(self) -> bool:
        """Whether calls should be sent here."""
        return not self._faults

    def reasons(self) -> list[str]:
        """Return why calls should not be sent here, in words for the operator; nothing: they should."""
        return [f"{part}: {fault}" for part, fault in self._faults.items()]

    def is_in_order(self, part: Part) -> bool:
        """Return whether a part has no fault, and is not in doubt."""
        return self._in_order[part].is_set()

    async def in_order(self, part: Part) -> None:
        """Return when a part has no fault, and is not in doubt."""
        await self._in_order[part].wait()

    def doubt(self, part: Part) -> None:
        """Something failed that may be the fault of a part: who looks after it is to look now.

        That alone is no reason not to serve.
        """
        self._in_order[part].clear()
        self._doubts[part].set()

    def doubts(self, part: Part) -> asyncio.Event:
        """Return what `doubt` sets; who looks after the part clears it, then looks."""
        return self._doubts[part]

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever `serving` changes. It must not block; what it raises is not caught."""
        self._listeners.append(listener)

    def fail(self, part: Part, fault: str, level: int = logging.WARNING) -> None:
        """A part is not in order; replaces what was wrong with it before."""
        if self._faults.get(part) == fault:
            return
        was_serving = self.serving
        self._faults[part] = fault
        self._in_order[part].clear()
        _log.log(level, "not serving: %s: %s", part, fault, extra={"event": "not_serving", "part": str(part)})
        self._tell(was_serving=was_serving)

    def mend(self, part: Part) -> None:
        """A part was found to be in order."""
        self._in_order[part].set()
        if self._faults.pop(part, None) is None:
            return
        if self.serving:
            _log.info("serving", extra={"event": "serving"})
        self._tell(was_serving=False)

    def _tell(self, *, was_serving: bool) -> None:
        if was_serving != self.serving:
            for listener in self._listeners:
                listener()
