"""The client of the store: how long a command may take, what is repeated, and when it is not even tried.

    answer lost, connection refused or reset   repeated twice within about 300 ms, on a new connection
    READONLY                                   the same: the name may lead to the new primary by now
    no answer in time (frozen, overloaded)     not repeated; the caller is told
    unfit for use                              refused at once, without asking the store

A command that is repeated may have been executed before: every script gives the same answer again.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import EqualJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.wire import Line

_REPEATS = 2
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 0.1
_REPEATED: tuple[type[RedisError], ...] = (RedisConnectionError, ReadOnlyError)


def quick_retry() -> Retry:
    """Return the policy for commands. A restart of the store takes longer: callers wait for that."""
    return Retry(EqualJitterBackoff(cap=_LONGEST_WAIT_S, base=_FIRST_WAIT_S), _REPEATS, _REPEATED)


class StoreClient(Redis, Commands):  # type: ignore[misc] # the library's own classes disagree
    """`redis.asyncio.Redis` on one connection for all its commands, each bounded in time.

    A command that blocks the connection (BLPOP and the like) is none for this client.

    Args:
        connection_pool: makes the connection. It needs no time-out: on Python 3.11 the library's own can
            swallow the cancellation of a task.
        retry: what is repeated, and when.
        timeout_ms: for each command, or batch, as a whole.
    """

    one_server = True

    def __init__(self, connection_pool: ConnectionPool, retry: Retry, timeout_ms: int) -> None:
        super().__init__(connection_pool=connection_pool)
        self.auto_close_connection_pool = True
        self._retry = retry
        self._timeout_s = timeout_ms / 1_000
        self._line = Line(connection_pool.make_connection, self._timeout_s)
        self._refusal: str | None = None

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connection; what is under way fails."""
        await self._line.aclose()
        await super().aclose(close_connection_pool)

    def refuse(self, reason: str | None) -> None:
        """Answer every command with `StoreUnavailable(reason)` from now on; None: ask the store again."""
        self._refusal = reason

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its answer."""
        (answer,) = await self.send(_pack(args), 1)
        if isinstance(answer, Exception):
            raise answer
        return self.parsed(args[0], answer, options)

    def parsed(self, name: str, answer: Any, options: dict[str, Any]) -> Any:
        """Return an answer as the library's typed method of the command has it."""
        if name not in self.response_callbacks:
            return answer
        options.pop("keys", None)  # for the library's cache alone
        return self.response_callbacks[name](answer, **options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "_Batch":  # type: ignore[override]
        """Return an empty batch; the time is for all its commands together."""
        if transaction:
            raise ValueError("scripts are transactions; a batch is none")
        return _Batch(self)

    async def send(self, commands: bytes, expected: int) -> list[Any]:
        """Send packed commands and return the answers, errors of the server among them.

        Raises:
            StoreUnavailable: every command is refused.
            RedisError, OSError, TimeoutError: there is no answer, also after it was sent again; of one
                command READONLY is taken for none.
        """
        if self._refusal is not None:
            raise StoreUnavailable(self._refusal)
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        try:
            return _heard(await self._line.call(commands, expected))
        except _REPEATED as error:
            async with asyncio.timeout_at(deadline):
                return await self._send_again(error, commands, expected)

    async def _send_again(self, error: RedisError, commands: bytes, expected: int) -> list[Any]:
        failures = [error]

        async def attempt() -> list[Any]:
            if failures:
                raise failures.pop()
            return _heard(await self._line.call(commands, expected))

        answers: list[Any] = await self._retry.call_with_retry(attempt, _nothing_to_mend)
        return answers


class _Batch:
    """See `Commands.pipeline`."""

    def __init__(self, client: StoreClient) -> None:
        self._client = client
        self._commands: list[tuple[Sequence[Any], dict[str, Any]]] = []

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> None:
        """Gather one call of a script."""
        self.execute_command("EVALSHA", sha, numkeys, *keys_and_args)

    def execute_command(self, *args: Any, **options: Any) -> None:
        """Gather one command."""
        self._commands.append((args, options))

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send what was gathered; return the answers in order, exceptions among them."""
        gathered, self._commands = self._commands, []
        if not gathered:
            return []
        answers = await self._client.send(b"".join(_pack(args) for args, _ in gathered), len(gathered))
        results = [
            answer if isinstance(answer, Exception) else self._client.parsed(args[0], answer, options)
            for (args, options), answer in zip(gathered, answers, strict=True)
        ]
        if raise_on_error:
            for result in results:
                if isinstance(result, Exception):
                    raise result
        return results


def _pack(args: Sequence[Any]) -> bytes:
    # The library's names of some commands are two words.
    packed: bytes = hiredis.pack_command((*args[0].split(), *args[1:]) if " " in args[0] else tuple(args))
    return packed


def _heard(answers: list[Any]) -> list[Any]:
    """Return answers unless it is worth a try to send the commands again: the server does not serve yet."""
    for answer in answers:
        if isinstance(answer, RedisConnectionError):
            raise answer
    if len(answers) == 1 and isinstance(answers[0], ReadOnlyError):
        raise answers[0]
    return answers


async def _nothing_to_mend(error: Exception) -> None:
    """The next attempt has a new connection by itself."""
