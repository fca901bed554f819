"""A `kuueri` command run as a process of its own."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from kuueri_grpc.cli.errors import CliError
from kuueri_grpc.process.environment import without_settings

#: Until a child has said that it is ready, or what it was waited for.
LINE_TIMEOUT_S = 30.0
#: Between SIGTERM and SIGKILL.
STOP_TIMEOUT_S = 10.0
_LOG_TAIL = 20


class Child:
    """`kuueri NAME ...`, in a process group of its own, with `directory` as its working directory.

    Its environment is this one's without the settings and credentials of kuueri: it takes neither a
    configuration nor a store from there.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], directory: Path, environment: dict[str, str]
    ) -> None:
        self._name = name
        self._log = directory / f"{name}.log"
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  this very package
                [sys.executable, "-m", "kuueri_grpc.cli", name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=directory,
                env=without_settings(os.environ) | environment,
                text=True,
                # A Ctrl-C at the terminal comes to the demonstration alone, which then ends its children.
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name=f"read-{name}", daemon=True)
        self._reader.start()

    @property
    def process_id(self) -> int:
        """Of the process, and of its group."""
        return self._process.pid

    def line(self) -> str:
        """Return the next line that it prints.

        Raises:
            CliError: it ended instead, or kept silent for `LINE_TIMEOUT_S`.
        """
        try:
            line = self._lines.get(timeout=LINE_TIMEOUT_S)
        except queue.Empty:
            line = None
            cause = f"said nothing for {LINE_TIMEOUT_S:g} s"
        else:
            cause = "ended"
        if line is None:
            raise CliError("\n  ".join([f"`kuueri {self._name}` {cause}:", *self._log_tail()]))
        return line

    def wait_for(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Return the match in the first line from here on that has one; raises as `line` does."""
        while not (match := pattern.search(self.line())):
            pass
        return match

    def stop(self) -> None:
        """End it, and whatever it has started, and wait until it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):
            # The group outlives its leader as long as it has a member.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        if self._process.stdout is not None:
            with self._process.stdout as stdout:
                for line in stdout:
                    self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _log_tail(self) -> list[str]:
        return self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL:]
