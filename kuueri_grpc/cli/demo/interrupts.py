"""Signals that end the demonstration, held back while it must not be torn apart."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Once installed, a signal raises: KeyboardInterrupt for Ctrl-C, else SystemExit with 128 + its number.

    In `held()` it waits for the end of the block, after `ignore()` nothing comes of it.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._is_held = False
        self._is_ignored = False
        self._pending: int | None = None

    def install(self) -> None:
        """Handle the signals of this process."""
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}

    def uninstall(self) -> None:
        """Leave them to the handlers before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """Let no signal raise from now on."""
        self._is_ignored = True

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let no signal raise within the block."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._pending is not None:
            self._raise(self._pending)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._is_held:
            self._pending = number
        elif not self._is_ignored:
            self._raise(number)

    def _raise(self, number: int) -> NoReturn:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)
