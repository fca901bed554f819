"""Write log lines in a thread of their own: a reader of the log that stands still holds up nothing."""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

from kuueri_grpc.telemetry.log_repeats import Repeats

#: What may wait to be written; more is dropped, and counted.
MOST_LINES = 10_000
MOST_LETTERS = 4 * 1_048_576
#: How long the end of the process waits for lines to be written.
FLUSH_S = 0.5


class LogWriter:
    """Writes lines in order; `put` returns at once, whatever becomes of them.

    A stream that was closed by its reader swallows everything. While a reader stands still lines wait, and
    are dropped when there are too many; how many is written when it goes on.

    Args:
        write: writes some text, for as long as that takes.
        dropped: makes the line about a number of lines that were dropped.
        repeats: holds back lines that come too often.
    """

    def __init__(
        self, write: Callable[[str], object], dropped: Callable[[int], str], repeats: Repeats | None = None
    ) -> None:
        self._write = write
        self._dropped_line = dropped
        self._repeats = repeats or Repeats()
        self._changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._letters = 0
        self._dropped = 0
        self._writing = False
        self._closing = False
        self._thread: threading.Thread | None = None

    def put(self, line_of: Callable[[int], str], key: object = None) -> None:
        """Have a line written.

        Args:
            line_of: makes the line, of how many others of its kind it stands for.
            key: its kind; of one kind, lines that come too often are held back. None: of none.
        """
        with self._changed:
            line = line_of(0) if key is None else self._repeats.passed(key, line_of, time.monotonic())
            if line is not None:
                self._enqueue(line)
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, timeout_s: float = FLUSH_S) -> None:
        """Return when everything is written, or the time is over."""
        with self._changed:
            self._changed.wait_for(self._is_idle, timeout_s)

    def close(self, timeout_s: float = FLUSH_S) -> None:
        """End in the same way; what was held back is written, too."""
        with self._changed:
            for line in self._repeats.take_all():
                self._enqueue(line)
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._thread is None, timeout_s)

    def _enqueue(self, line: str) -> None:
        if len(self._waiting) >= MOST_LINES or self._letters + len(line) > MOST_LETTERS:
            self._dropped += 1
            return
        self._waiting.append(line)
        self._letters += len(line)

    def _is_idle(self) -> bool:
        return not self._waiting and not self._dropped and not self._writing

    def _run(self) -> None:
        while (lines := self._next()) is not None:
            for line in lines:
                self._write(line + "\n")

    def _next(self) -> list[str] | None:
        """Return what is to be written next; None: the end."""
        with self._changed:
            self._writing = False
            while True:
                for line in self._repeats.take_due(time.monotonic()):
                    self._enqueue(line)
                if self._waiting:
                    line = self._waiting.popleft()
                    self._letters -= len(line)
                    self._writing = True
                    return [line]
                if self._dropped:
                    # When all that had room before them is written: they came after it.
                    count, self._dropped = self._dropped, 0
                    self._writing = True
                    return [self._dropped_line(count)]
                self._changed.notify_all()
                if self._closing:
                    self._thread = None
                    self._changed.notify_all()
                    return None
                self._changed.wait(self._repeats.next_due_s(time.monotonic()))


def writer_of(stream: TextIO | None) -> Callable[[str], object]:
    """Return what writes text to a stream, unbuffered. It passes over errors: nothing could report them."""
    try:
        descriptor = None if stream is None else stream.fileno()
    except (OSError, ValueError):
        descriptor = None
    if stream is None:
        return lambda _: None
    if descriptor is None:  # of a test
        return lambda text: _write_stream(stream, text)
    return lambda text: _write_all(descriptor, text.encode("utf-8", "backslashreplace"))


def write_if_read(stream: TextIO | None, text: str) -> bool:
    """Write a short text if that takes no time; return whether it was written."""
    try:
        descriptor = None if stream is None else stream.fileno()
    except (OSError, ValueError):
        descriptor = None
    if stream is None:
        return False
    if descriptor is None:
        _write_stream(stream, text)
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    # A pipe is ready when it takes a page.
    if [event for _, event in poll.poll(0) if event & select.POLLOUT]:
        return _write_all(descriptor, text.encode("utf-8", "backslashreplace"))
    return False


def _write_stream(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        return


def _write_all(descriptor: int, data: bytes) -> bool:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
        except OSError:
            return False
    return True
