"""The installed command, run as a user runs it: a process with an environment, a directory, signals."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from kuueri_grpc.store.embedded import EmbeddedValkey
from tests.keys import ENVIRONMENT

#: How long anything may take before a test gives up on it: much longer than on a busy machine.
PATIENCE_S = 60.0
LOOPBACK = ("--allow-target", "127.0.0.0/8")
READY = r"kuueri is ready on (\S+:\d+) \("

_OURS = ("KUUERI_", "TASKS_", "XDG_")
_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES")


def command(name: str) -> str:
    """Return the path of a command of the environment that the tests run in."""
    return str(Path(sys.executable).parent / name)


def environment(directory: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment without settings, proxies or credentials of the person who runs the tests.

    The client commands keep credentials in `directory`.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_OURS) and name not in _MAKE and not name.lower().endswith("_proxy")
    }
    return {**kept, "KUUERI_CREDENTIALS": str(directory / "credentials.json"), **(more or {})}


class CommandProcess:
    """A command in a session of its own. What it prints is read at once, so that it never waits for us."""

    def __init__(self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                arguments,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            for line in stdout:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def lines_until(self, pattern: str) -> list[str]:
        """Return what it prints next, up to the first line in which `pattern` is found."""
        lines: list[str] = []
        while not lines or not re.search(pattern, lines[-1]):
            line = self._lines.get(timeout=PATIENCE_S)
            assert line is not None, f"it ended: {lines}\n{self._log.read_text()}"
            lines.append(line)
        return lines

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Signal all that it started in its session, as a terminal does."""
        os.killpg(self._process.pid, number)

    def wait(self) -> int:
        """Return its exit status when it has ended."""
        status = self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return status

    def assert_group_is_gone(self) -> None:
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return
        raise AssertionError("something that the command started is still running")


class Server:
    """`kuueri serve` on a free port. It can be stopped, killed and started again on its data."""

    def __init__(self, directory: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.address = ""
        self._options = options
        external = ENVIRONMENT if "--redis-url" in options else {}
        self._env = environment(directory, {**external, **(env or {})})
        self._log = directory / "serve.log"
        self._process: CommandProcess | None = None

    @property
    def store_url(self) -> str:
        """Where its embedded store listens."""
        return EmbeddedValkey(self.data_dir).url

    def start(self) -> Self:
        arguments = [command("kuueri"), "serve", "--port", "0", "--data-dir", str(self.data_dir)]
        self._process = CommandProcess([*arguments, *self._options], self.directory, self._env, self._log)
        ready = self._process.lines_until(READY)
        assert len(ready) == 1, ready
        found = re.match(READY, ready[0])
        assert found is not None
        self.address = found[1]
        return self

    def stop(self) -> None:
        """Stop it as an init system does. It exits with 0, leaves nothing running, has logged no fault."""
        process, self._process = self._process, None
        assert process is not None
        store_pid = self._store_pid()
        process.send(signal.SIGTERM)
        assert process.wait() == 0, self.log
        process.assert_group_is_gone()
        if store_pid is not None:
            _assert_gone(store_pid)
        assert " ERROR " not in self.log, self.log

    def send_to_group(self, number: signal.Signals) -> None:
        """Signal all processes that it consists of, as SIGSTOP does to freeze them."""
        assert self._process is not None
        self._process.send_to_group(number)

    def kill(self) -> None:
        """End it, with all processes that it consists of, as a crash does."""
        process, self._process = self._process, None
        assert process is not None
        process.send_to_group(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The process that was started: with one worker it is all of the server but its store."""
        assert self._process is not None
        return self._process.pid

    def _store_pid(self) -> int | None:
        path = self.data_dir / "valkey.pid"
        return int(path.read_text()) if path.exists() else None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._process is not None:
            self.stop()
        elif self._process is not None and self._process.running:
            # The test has failed already: only leave nothing behind.
            self._process.send(signal.SIGTERM)
            self._process.wait()


def _assert_gone(pid: int) -> None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return
    raise AssertionError(f"process {pid} is still running")
