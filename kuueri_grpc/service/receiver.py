"""Receives the messages of calls, with bounds on the bytes of a process and of one caller.

gRPC's core receives a message when it is asked for one; until then a call costs its metadata and what fits
into its HTTP/2 window. The core knows one limit for all methods, and fills memory for a message before its
length can be seen here. So each message that is under way may come to that limit, and few are under way at
once; the calls beyond wait in order. What was received counts until its call releases it.

A caller is a project, or an address for methods without a token.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import grpc.aio

from kuueri_grpc.engine.patience import Patience
from kuueri_grpc.service.message_errors import MessageLate, MessageTooLarge
from kuueri_grpc.service.unpack import is_packed, unpack
from kuueri_grpc.service.violations import InvalidFields, Violation

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True, slots=True)
class ReceiveLimits:
    """What may be under way in one process.

    `messages`: those that are being received, each of which can come to the core's limit. A caller may always
    have `guaranteed` of them, so that others cannot take all, and `per_caller` at most. `held_bytes`:
    received and not released; beyond it no caller receives more messages than the guaranteed ones. Beyond
    `caller_bytes` a caller receives none.
    """

    messages: int = 64
    per_caller: int = 32
    guaranteed: int = 4
    held_bytes: int = 67_108_864
    caller_bytes: int = 33_554_432


@dataclass(slots=True, eq=False)
class _Account:
    """What one caller has under way."""

    messages: int = 0
    bytes: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Receiver:
    """Receives messages. `wait_s`: how long a call may take until its message has arrived."""

    def __init__(self, limits: ReceiveLimits, wait_s: float) -> None:
        self._limits = limits
        self._wait_s = wait_s
        self._accounts: dict[str, _Account] = {}
        #: Accounts that wait for room in the process; others wait for room of their own.
        self._blocked: deque[_Account] = deque()
        self._messages = 0
        self._bytes = 0
        self._late: set[asyncio.Task[Any]] = set()
        self._patience = Patience[asyncio.Task[Any]](lambda: wait_s, self._give_up)

    @property
    def held_bytes(self) -> int:
        """Bytes that were received and not released."""
        return self._bytes

    async def receive(self, context: Context, caller: str, limit: int) -> bytes:
        """Return the message of a call. `release` its length when the call has no more use for it.

        Raises:
            MessageTooLarge: it has more than `limit` bytes once unpacked.
            MessageLate: it did not arrive in time.
            InvalidFields: the call has none.
        """
        message = await self.receive_next(context, caller, limit)
        if message is None:
            raise InvalidFields([Violation("request", "is missing; expected one message")])
        return message

    async def receive_next(self, context: Context, caller: str, limit: int) -> bytes | None:
        """Return the next message of a call as `receive` does; None: there are no more."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  gRPC serves each call in a task
        account = self._accounts.get(caller)
        if account is None:
            account = self._accounts[caller] = _Account()
        self._patience.begin(task)
        try:
            if account.waiting or not self._has_room(account):
                await self._turn(account)
            else:
                self._begin(account)
            try:
                return await self._read(context, account, limit)
            finally:
                self._end(account)
        except asyncio.CancelledError:
            # The client may have gone at the same time.
            if task not in self._late or task.uncancel():
                raise
            raise MessageLate(self._wait_s) from None
        finally:
            self._late.discard(task)
            self._patience.end(task)
            self._settle(caller, account)

    def release(self, caller: str, size: int) -> None:
        """Take off the bytes of a message that was received."""
        if size:
            account = self._accounts[caller]
            account.bytes -= size
            self._bytes -= size
            self._settle(caller, account)

    async def _read(self, context: Context, account: _Account, limit: int) -> bytes | None:
        message: Any = await context.read()
        if message is grpc.aio.EOF:
            return None
        if len(message) > limit:
            raise MessageTooLarge(limit)
        if is_packed(message):
            message = await unpack(message, limit)
        account.bytes += len(message)
        self._bytes += len(message)
        return cast("bytes", message)

    def _begin(self, account: _Account) -> None:
        account.messages += 1
        self._messages += 1

    def _end(self, account: _Account) -> None:
        account.messages -= 1
        self._messages -= 1

    def _has_room(self, account: _Account) -> bool:
        return self._has_own_room(account) and (
            account.messages < self._limits.guaranteed or self._process_has_room()
        )

    def _has_own_room(self, account: _Account) -> bool:
        limits = self._limits
        return account.messages < limits.per_caller and account.bytes < limits.caller_bytes

    def _process_has_room(self) -> bool:
        return self._messages < self._limits.messages and self._bytes < self._limits.held_bytes

    async def _turn(self, account: _Account) -> None:
        """Wait for room, and begin."""
        turn = asyncio.get_running_loop().create_future()
        account.waiting.append(turn)
        self._block(account)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._end(account)
            elif turn in account.waiting:
                account.waiting.remove(turn)
            raise

    def _block(self, account: _Account) -> None:
        """Have an account wait for the process, if it does not wait for itself."""
        if account.waiting and self._has_own_room(account) and account not in self._blocked:
            self._blocked.append(account)

    def _settle(self, caller: str, account: _Account) -> None:
        """Let in those that have room now; forget a caller that has nothing under way."""
        while self._blocked and self._process_has_room():
            first = self._blocked.popleft()
            self._let_in(first, 1)
            self._block(first)
        if account.waiting:
            self._let_in(account, len(account.waiting))
            self._block(account)
        elif not account.messages and not account.bytes:
            self._accounts.pop(caller, None)

    def _let_in(self, account: _Account, most: int) -> None:
        while most and account.waiting and self._has_room(account):
            turn = account.waiting.popleft()
            if not turn.done():
                self._begin(account)
                turn.set_result(None)
                most -= 1

    def _give_up(self, task: asyncio.Task[Any]) -> None:
        self._late.add(task)
        task.cancel()
