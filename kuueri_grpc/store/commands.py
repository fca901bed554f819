"""What the store's ports run their commands on: one server (`StoreClient`) or a cluster (`ClusterClient`)."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, ClassVar, Literal, Protocol, Self

from redis.commands import AsyncCoreCommands


class Batch(Protocol):
    """Script calls that are sent together."""

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> object:
        """Gather one call."""
        ...

    async def execute(self, raise_on_error: bool) -> Sequence[Any]:
        """Send what was gathered; return the answers in order, exceptions among them."""
        ...


class Commands(AsyncCoreCommands):
    """The library's typed commands, bounded in time: every one ends within seconds, whatever the store does.

    Raises:
        StoreUnavailable: every command is refused, see `refuse`.
        RedisError, OSError, TimeoutError: see `errors.OUTAGES`.
    """

    _is_async_client: Literal[True] = True
    #: Whether all keys are on one server: it serves or does not, there is one clock, and the keys are in
    #: four databases. On a cluster all are in database 0.
    one_server: ClassVar[bool]

    async def __aenter__(self) -> Self:
        """Does not connect: the first command does."""
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        raise NotImplementedError

    def pipeline(self, transaction: bool) -> Batch:
        """Return an empty batch; False: its commands do not depend on each other."""
        raise NotImplementedError

    def refuse(self, reason: str | None) -> None:
        """Answer every command with `StoreUnavailable(reason)` from now on; None: ask the store again."""
        raise NotImplementedError
