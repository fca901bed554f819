"""One connection to the store for the commands of all callers at once.

A command is written when it comes, whoever still waits for an answer; answers come in the order of the
commands. So there is no pool to take a connection from, no task and no timer per command, and commands of one
moment leave in one write. The store works on one command at a time, whatever the number of connections.

The client library opens the connection (addresses, TLS, credentials, greeting) and knows what errors mean;
from then on the socket is read here. See docs/adr/0016-one-connection.md.
"""

import asyncio
import copy
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError
from redis.exceptions import TimeoutError as NoAnswer

from kuueri_grpc.store.errors import OUTAGES

#: Deadlines are looked at this often at the most, once one has passed.
_TICK_S = 0.02
_NO_ANSWER_YET = object()


class _Call:
    """Commands that are answered together. `due`: until when (loop time)."""

    __slots__ = ("answers", "commands", "due", "expected", "future")

    def __init__(self, commands: bytes, expected: int, due: float, future: asyncio.Future[list[Any]]) -> None:
        self.commands = commands
        self.expected = expected
        self.due = due
        self.future = future
        self.answers: list[Any] = []

    def fail(self, error: Exception) -> None:
        """End it, unless its caller has gone or was answered."""
        if not self.future.done():
            self.future.set_exception(error)


class _Wire(asyncio.Protocol):
    """A connection that was opened.

    `useless` is told when it should take no more calls: it was lost, or leads to a server that was demoted.
    """

    def __init__(self, connection: AbstractConnection, useless: "Callable[[_Wire], None]") -> None:
        # It is taken away from the library, which would close it, and warn, when it is collected.
        writer: Any = connection._writer  # noqa: SLF001
        connection._writer = connection._reader = None  # noqa: SLF001
        self._writer = writer
        self._transport: asyncio.Transport = writer.transport
        self._opened_with: Any = self._transport.get_protocol()
        self._transport.set_protocol(self)
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,  # noqa: SLF001
            notEnoughData=_NO_ANSWER_YET,
        )
        self._useless = useless
        self._leaving = False
        self._calls: deque[_Call] = deque()
        self.closed = asyncio.get_running_loop().create_future()

    @property
    def oldest_due(self) -> float | None:
        """When the first of those that wait will have waited long enough; None: nobody waits."""
        return self._calls[0].due if self._calls else None

    def send(self, call: _Call) -> None:
        """Write the commands of a call."""
        self._calls.append(call)
        self._transport.write(call.commands)
        call.commands = b""  # it may wait for long

    def data_received(self, data: bytes) -> None:
        """Hand answers out."""
        reader, calls = self._reader, self._calls
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not _NO_ANSWER_YET:
                if isinstance(answer, hiredis.PushNotification):
                    continue  # nothing was asked of the server that it would answer so
                if isinstance(answer, ReadOnlyError):
                    self._useless(self)
                call = calls[0]
                call.answers.append(answer)
                if len(call.answers) == call.expected:
                    del calls[0]
                    if not call.future.done():
                        call.future.set_result(call.answers)
        except (InvalidResponse, IndexError):  # IndexError: an answer to nothing
            self.close()
        if self._leaving and not calls:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self._opened_with.connection_lost(exc)  # ends what the library has begun
        calls, self._calls = self._calls, deque()
        for call in calls:
            call.fail(RedisConnectionError("the connection to the store was lost"))
        self.closed.set_result(None)
        self._useless(self)

    def expire(self, now: float) -> bool:
        """Tell those that have waited for long enough; return whether there were any."""
        late = False
        for call in self._calls:
            if call.due > now:
                break
            late = True
            call.fail(TimeoutError())
        else:
            if late and self._leaving:
                self.close()  # nobody waits for what it may still bring
        return late

    def leave(self) -> None:
        """Take no more calls, and close when those under way are answered."""
        self._leaving = True
        if not self._calls:
            self.close()

    def close(self) -> None:
        """Close at once."""
        self._transport.abort()


class Line:
    """Commands to one server: over one connection, which is opened when it is needed and there is none.

    Args:
        make_connection: returns a connection of the library's that is not open yet.
        timeout_s: how long a call may take, with the time to open the connection.
    """

    def __init__(self, make_connection: Callable[[], AbstractConnection], timeout_s: float) -> None:
        self._make_connection = make_connection
        self._timeout_s = timeout_s
        self._wire: _Wire | None = None
        #: Those that are to be closed, or are about to be.
        self._former: set[_Wire] = set()
        self._waiting: deque[_Call] = deque()
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def call(self, commands: bytes, expected: int) -> asyncio.Future[list[Any]]:
        """Send commands that were packed; the future has the answers, errors of the server among them.

        It fails with `OUTAGES`: TimeoutError where no answer came in time, which leaves open whether the
        commands were carried out. Cancel it to forget the answers.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        call = _Call(commands, expected, loop.time() + self._timeout_s, future)
        if self._timer is None:
            self._timer = loop.call_at(call.due, self._expire)
        if self._wire is not None:
            self._wire.send(call)
        else:
            self._waiting.append(call)
            if self._opening is None:
                self._opening = loop.create_task(self._open())
        return future

    async def aclose(self) -> None:
        """Close all; who waits is told."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        wires = self._wires()
        for wire in wires:
            wire.close()
        await asyncio.gather(*(wire.closed for wire in wires))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _open(self) -> None:
        try:
            wire = await self._connect()
        except OUTAGES as error:
            self._fail_waiting(error)
        except BaseException:
            self._fail_waiting(RedisConnectionError("the connection to the store was closed"))
            raise
        else:
            self._wire = wire
            waiting, self._waiting = self._waiting, deque()
            for call in waiting:
                if not call.future.done():
                    wire.send(call)
        finally:
            self._opening = None

    async def _connect(self) -> _Wire:
        while True:
            connection = self._make_connection()
            try:
                async with asyncio.timeout(self._timeout_s):
                    await connection.connect()  # type: ignore[no-untyped-call]
            except (TimeoutError, NoAnswer):
                # It is tried again for those who came meanwhile and have time left.
                if all(call.future.done() for call in self._waiting):
                    raise
            else:
                return _Wire(connection, self._leave)

    def _fail_waiting(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            call.fail(copy.copy(error))  # to each its own: what raises one writes into it

    def _leave(self, wire: _Wire) -> None:
        """Send what follows over a new connection: the server's address is asked for again."""
        if wire is self._wire:
            self._wire = None
            self._former.add(wire)
            wire.leave()
        if wire.closed.done():
            self._former.discard(wire)

    def _wires(self) -> list[_Wire]:
        return [*self._former] if self._wire is None else [self._wire, *self._former]

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiting and self._waiting[0].due <= now:
            self._waiting.popleft().fail(TimeoutError())
        for wire in self._wires():
            if wire.expire(now):
                self._leave(wire)  # it may be as silent for those to come
        dues = [wire.oldest_due for wire in self._wires() if wire.oldest_due is not None]
        if self._waiting:
            dues.append(self._waiting[0].due)
        self._timer = loop.call_at(max(min(dues), now + _TICK_S), self._expire) if dues else None
