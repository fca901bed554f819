"""Limits of time for many attempts by one timer.

Nearly every attempt ends long before its limit. A timer of its own, made and taken back, is more work than
all that a limit takes here: two changes of a set.
"""

import asyncio
import math


class Deadline:
    """A limit of time on the asyncio task that asked for it: when it is over, the task is cancelled."""

    __slots__ = ("_cancelling", "_task", "at", "expired", "suspended_at", "suspended_s")

    def __init__(self, task: asyncio.Task[object], at: float) -> None:
        self._task = task
        self._cancelling = task.cancelling()
        self.at = at
        self.expired = False
        self.suspended_at = 0.0
        #: For how long it did not run.
        self.suspended_s = 0.0

    def expire(self) -> None:
        """Cancel the task."""
        self.expired = True
        self._task.cancel()

    def was_the_cause(self) -> bool:
        """Return whether the task was cancelled for this and nothing else. Ask once, when it has expired."""
        return self._task.uncancel() <= self._cancelling


class Deadlines:
    """The deadlines that are running. Must be made in a running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next_look = math.inf

    def start(self, seconds: float) -> Deadline:
        """Return a deadline for the current task. It must be stopped."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline is for an asyncio task")
        deadline = Deadline(task, self._loop.time() + seconds)
        self._run(deadline)
        return deadline

    def stop(self, deadline: Deadline) -> None:
        """It does not count any more. The timer stays: the next deadline would only need it again."""
        self._running.discard(deadline)

    def suspend(self, deadline: Deadline) -> None:
        """Stop it for a while."""
        deadline.suspended_at = self._loop.time()
        self._running.discard(deadline)

    def resume(self, deadline: Deadline) -> None:
        """Let it run on with the time that was left, if it had not expired."""
        pause_s = self._loop.time() - deadline.suspended_at
        deadline.suspended_s += pause_s
        deadline.at += pause_s
        if not deadline.expired:
            self._run(deadline)

    def close(self) -> None:
        """Take the timer back."""
        if self._timer is not None:
            self._timer.cancel()

    def _run(self, deadline: Deadline) -> None:
        self._running.add(deadline)
        if deadline.at < self._next_look:
            self._look_at(deadline.at)

    def _look_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_look = at
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        self._next_look = math.inf
        now = self._loop.time()
        for deadline in [deadline for deadline in self._running if deadline.at <= now]:
            self._running.discard(deadline)
            deadline.expire()
        if self._running:
            self._look_at(min(deadline.at for deadline in self._running))
