"""Ports: the clock, and the sender of attempts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.task import HttpTarget


class Clock(Protocol):
    """The store's time, known without asking it: its last answer plus monotonic time since."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch on the store's clock. A change of the host's clock moves nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt, ready to be sent. Counts are those of this attempt; limits come from the policies."""

    project_id: str
    task_id: str
    attempt: int
    retry_count: int
    retry_limit: int
    repeat_count: int
    repeat_limit: int
    schedule_time_ms: int
    #: When the task was subscribed: with its id, what no other task is or ever was.
    create_time_ms: int
    timeout_ms: int
    target: HttpTarget
    #: Secrets to sign with, newest first ("whsec_" + base64); empty: the request is not signed.
    signing_secrets: tuple[str, ...] = field(default=(), repr=False)


class NotStarted(Exception):
    """Nothing was sent: the attempt's lease had run out before its turn came."""


class ResourcesLacking(Exception):
    """No answer came, as this process lacked a descriptor, a port or memory for as long as an attempt waits.

    It says nothing of the target: the lease, which is held, is to be given back. `lack`: what, for the log.
    """

    def __init__(self, lack: str) -> None:
        super().__init__(lack)
        self.lack = lack


class Dispatcher(Protocol):
    """Sends attempts.

    - `send` never raises for anything the target or the network does: that is an `Outcome`.
    - One deadline, `timeout_ms`, over connect, headers and the whole body.
    - Cancelling the call aborts the attempt: when the cancelled call has ended, the connection is
      closed and nothing more is sent.
    - No address is dialled that `domain.target_policy` refuses.
    - `may_start` is asked right before the attempt's deadline starts (after any wait for a free slot), and
      again whenever a request is about to be written: when it says no, nothing is sent and `NotStarted`
      raised.
    - Where this process lacks what a connection takes, the attempt waits for it, some time at the most and
      without its deadline running; then it raises `ResourcesLacking`.
    """

    async def send(self, delivery: Delivery, may_start: Callable[[], bool]) -> Outcome:
        """Send the request and return what it came to.

        Raises:
            NotStarted: `may_start` said no.
            ResourcesLacking: this process could not send it.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
