"""What becomes of each call to the store: told to the telemetry, outages to the log as they begin and end."""

import logging
import time
from types import TracebackType

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import Telemetry
from kuueri_grpc.store.errors import OUTAGES, ErrorKind, kind_of, unavailable, words_of

_log = logging.getLogger(__name__)

#: The store refuses these calls and may answer others: only what was refused can show that it is over.
_REFUSALS = frozenset({ErrorKind.OOM, ErrorKind.READONLY, ErrorKind.MISCONF, ErrorKind.NOREPLICAS})


class StoreObserver:
    """Watches the calls of one process: one observer for all that calls the store.

    An outage of a kind begins with the first call that fails by it, and ends with the first that is
    answered; where the store only refuses some calls, with the first of those that is answered.

    Args:
        telemetry: is told of every call.
        quiet_s: how long no call may have failed before one that is answered ends the outage. On a cluster
            calls to one node fail while others are answered.
    """

    def __init__(self, telemetry: Telemetry, quiet_s: float = 0.0) -> None:
        self._telemetry = telemetry
        self._quiet_s = quiet_s
        self._outages: dict[ErrorKind, _Outage] = {}

    def call(self, operation: str) -> "_Call":
        """Return what to make a call in: `with observer.call("claim"):`. Raises `StoreUnavailable`."""
        return _Call(self, operation)

    def answered(self, operation: str, seconds: float) -> None:
        """The store answered."""
        self._telemetry.store_called(operation, seconds)
        if self._outages:
            self._end_outages(operation)

    def failed(self, operation: str, error: BaseException) -> None:
        """The store did not answer, or refused."""
        kind, words = kind_of(error), words_of(error)
        self._telemetry.store_failed(operation, kind)
        if kind in self._outages:
            self._outages[kind].operations.add(operation)
            self._outages[kind].failed_at = time.monotonic()
            return
        self._outages[kind] = _Outage(operation)
        _log.warning(
            "calls to the store fail (%s), the first was %s%s",
            kind,
            operation,
            f": {words}" if words else "",
            extra={"event": "store_outage_began", "kind": str(kind), "operation": operation},
        )

    def _end_outages(self, operation: str) -> None:
        for kind, outage in list(self._outages.items()):
            if time.monotonic() - outage.failed_at < self._quiet_s:
                continue
            if kind not in _REFUSALS or operation in outage.operations:
                del self._outages[kind]
                seconds = round(time.monotonic() - outage.began, 3)
                _log.warning(
                    "calls to the store are answered again after %.1f s (%s)",
                    seconds,
                    kind,
                    extra={"event": "store_outage_ended", "kind": str(kind), "seconds": seconds},
                )


class _Outage:
    """When it began and was last met, by the monotonic clock (s), and which operations it was met by."""

    __slots__ = ("began", "failed_at", "operations")

    def __init__(self, operation: str) -> None:
        self.began = self.failed_at = time.monotonic()
        self.operations = {operation}


class _Call:
    """One call to the store. A class and no generator: it is entered on every call."""

    __slots__ = ("_observer", "_operation", "_started")

    def __init__(self, observer: StoreObserver, operation: str) -> None:
        self._observer = observer
        self._operation = operation
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._observer.answered(self._operation, time.perf_counter() - self._started)
            return
        # What it is made of may have said already what the caller is told.
        cause = error.__cause__ if isinstance(error, StoreUnavailable) else error
        if isinstance(cause, OUTAGES):
            self._observer.failed(self._operation, cause)
        if cause is error and isinstance(error, OUTAGES):
            raise unavailable(error) from error
