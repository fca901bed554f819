"""What a demonstration runs on: a temporary directory and the processes in it, all of which go away."""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from kuueri_grpc.cli.demo.child import Child
from kuueri_grpc.cli.demo.interrupts import Interrupts


class Stage:
    """A context manager: leaving it, however that comes about, stops every process and removes every file."""

    def __init__(self) -> None:
        self._interrupts = Interrupts()
        self._children: list[Child] = []
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        self._interrupts.install()
        with self._interrupts.held():
            self._directory = tempfile.TemporaryDirectory(prefix="kuueri-demo-")
        return self

    def start(self, name: str, *arguments: str, environment: dict[str, str] | None = None) -> Child:
        """Run `kuueri NAME ARGUMENTS`."""
        # No signal comes between the start of a process and the note of it.
        with self._interrupts.held():
            child = Child(name, arguments, self.directory, environment or {})
            self._children.append(child)
        return child

    @property
    def directory(self) -> Path:
        """The temporary directory."""
        if self._directory is None:
            raise RuntimeError("the stage has not been entered")
        return Path(self._directory.name)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._interrupts.ignore()
        for child in reversed(self._children):
            child.stop()
        if self._directory is not None:
            self._directory.cleanup()
        self._interrupts.uninstall()
