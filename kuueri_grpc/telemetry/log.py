"""Log lines on standard error, for people or as JSON.

They name projects, tasks and attempts, and never hold a body, a header, a query string or a credential:
nobody logs them, and what an error of a library might drag in is cut out of the finished line.

A line about something that an operator may have to act on has a field `event`; `docs/operations.md`
lists the events. Fields are given as `extra`: `_log.warning("...", extra={"event": "lease_lost", ...})`.

No line is waited for: a thread writes them (`LogWriter`).
"""

import logging
import re
import sys
import time
from typing import Any, Literal

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from kuueri_grpc.telemetry.log_writer import LogWriter, writer_of

LogFormat = Literal["human", "json"]

_HUMAN = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_SECRETS = (
    # Tokens and signing secrets of this service.
    (re.compile(r"\b(kq|whsec)_[\w+/=-]+"), r"\1_..."),
    (re.compile(r"\b(Bearer|Basic) +[^\s'\",]+", re.IGNORECASE), r"\1 ..."),
    # Credentials and query of a URL.
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/?#'\"@]*@", re.IGNORECASE), r"\1...@"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?'\"]*\?)[^\s'\"<>]*", re.IGNORECASE), r"\1..."),
)
#: Events that come and go with an outage, which may be many times a second.
_FLAPPING = frozenset(
    {
        "loop_retries",
        "not_serving",
        "serving",
        "signals_lost",
        "signals_restored",
        "store_outage_began",
        "store_outage_ended",
    }
)
#: What `logging` itself keeps in a record, in newer versions of Python too.
_RESERVED = frozenset((*RESERVED_ATTRS, "taskName"))


def configure_logging(level: str, log_format: LogFormat = "human") -> None:
    """Write log lines of `level` (DEBUG, INFO, WARNING, ERROR) and above; of libraries, warnings alone."""
    handler = _Unblocked(_JsonLines() if log_format == "json" else _HumanLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("kuueri_grpc").setLevel(level)


def set_instance(instance: str) -> None:
    """Have every line from now on name the instance that it is from."""

    def add(record: logging.LogRecord) -> bool:
        record.instance = instance
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(add)


class _Unblocked(logging.Handler):
    """Hands finished lines, without secrets, to a thread that writes them to standard error."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._writer = LogWriter(writer_of(sys.stderr), self._dropped)

    def emit(self, record: logging.LogRecord) -> None:
        """See the base class."""

        def line_of(others: int) -> str:
            if others:
                record.repeated = others
            return self.format(record)

        try:
            self._writer.put(line_of, _kind(record))
        except Exception:  # noqa: BLE001  as every handler: what is wrong with a line ends nothing
            self.handleError(record)

    def flush(self) -> None:
        """Return when all lines are written, or half a second is over."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is left, for half a second at the most."""
        self._writer.close()
        super().close()

    def _dropped(self, count: int) -> str:
        text = "%d lines of the log were dropped: standard error was not read"
        record = logging.LogRecord(__name__, logging.WARNING, "", 0, text, (count,), None)
        record.__dict__.update({"event": "log_lines_dropped", "lines": count})
        self.filter(record)
        return self.format(record)


def _kind(record: logging.LogRecord) -> object:
    """Return what a line is about, if it is of those that may come many times a second; None if not."""
    fields = record.__dict__
    if fields.get("event") not in _FLAPPING:
        return None
    return tuple(fields.get(name) for name in ("event", "kind", "part", "name", "doing"))


def redact(line: str) -> str:
    """Return the line without credentials and query strings."""
    for pattern, replacement in _SECRETS:
        line = pattern.sub(replacement, line)
    return line


class _HumanLines(logging.Formatter):
    """`time LEVEL logger: message field=value ...`, with a traceback below where there is one."""

    def __init__(self) -> None:
        super().__init__(_HUMAN)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        fields = [f" {key}={value}" for key, value in record.__dict__.items() if key not in _RESERVED]
        return super().formatMessage(record) + "".join(fields)

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class _JsonLines(JsonFormatter):
    """One object a line: time (RFC 3339, UTC), level, logger, message, then the fields."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        names = {"asctime": "time", "levelname": "level", "name": "logger", "exc_info": "exception"}
        self.converter = time.gmtime
        super().__init__(
            ("asctime", "levelname", "name", "message"), rename_fields=names, reserved_attrs=sorted(_RESERVED)
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        # Before it is encoded: a cut through an escape sequence would leave something that is not JSON.
        return {key: redact(value) if isinstance(value, str) else value for key, value in log_data.items()}
