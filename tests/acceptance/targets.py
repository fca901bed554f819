"""An HTTP target that answers as scripted and keeps what it received. It shares no code with the product."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar, cast

import grpc.aio
import h11

from tests.acceptance.served import PATIENCE_S


@dataclass(eq=False)
class Exchange:
    """One request as it came over the wire, and the connection to answer it on. Times in ms since 1970."""

    method: str
    target: str
    raw_headers: list[tuple[str, str]]
    body: bytes
    received_ms: int
    connection: "_Connection" = field(repr=False)
    answered_ms: int = 0

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name. A name that came twice is a fault."""
        named = {name.lower(): value for name, value in self.raw_headers}
        assert len(named) == len(self.raw_headers), self.raw_headers
        return named

    @property
    def attempt(self) -> int:
        return int(self.headers["x-kuueri-tasks-attempt"])

    async def connection_lost(self) -> None:
        """Return when the peer has closed or reset the connection."""
        async with asyncio.timeout(PATIENCE_S):
            await self.connection.lost.wait()


_Result = TypeVar("_Result")

#: How to answer one request; raises ConnectionResetError when the peer has gone.
Answer = Callable[[Exchange], Awaitable[None]]


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """Answer with a whole response; `_` in names of headers stands for `-`."""

    async def answer(exchange: Exchange) -> None:
        exchange.answered_ms = now_ms()
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        exchange.connection.respond(code, [*fields, ("content-length", str(len(body)))], body)

    return answer


OK = status(200)


def held(gate: asyncio.Event, then: Answer = OK) -> Answer:
    """Answer when the gate opens."""

    async def answer(exchange: Exchange) -> None:
        await gate.wait()
        await then(exchange)

    return answer


def dripping(prefix: bytes, drop: bytes) -> Answer:
    """Send `prefix`, then `drop` again and again until the peer goes."""

    async def answer(exchange: Exchange) -> None:
        connection = exchange.connection
        connection.write(prefix)
        while not connection.lost.is_set():
            connection.write(drop)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await connection.lost.wait()

    return answer


class Target:
    """A server on a loopback port. Each path has a script: an answer per request, the last one for ever."""

    def __init__(self) -> None:
        self.port = 0
        self.exchanges: list[Exchange] = []
        self.connection_count = 0
        self._scripts: dict[str, list[Answer]] = {}
        self._arrival = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[_Connection] = set()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def script(self, path: str, *answers: Answer) -> str:
        """Set the answers of a path; return its URL."""
        self._scripts[path] = list(answers)
        return self.url(path)

    def at(self, path: str) -> list[Exchange]:
        """What has come to a path, in the order of arrival."""
        return [exchange for exchange in self.exchanges if exchange.path == path]

    async def received(self, path: str, count: int = 1) -> list[Exchange]:
        """Return what has come to a path when that are `count` requests."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(self.at(path)) < count:
                    await self._arrival.wait()
        except TimeoutError:
            raise AssertionError(f"{len(self.at(path))} of {count} requests came to {path}") from None
        return self.at(path)

    def _next_answer(self, path: str) -> Answer:
        answers = self._scripts.get(path, [OK])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def take(self, exchange: Exchange) -> None:
        """Note a request and begin to answer it."""
        self.exchanges.append(exchange)
        self._arrival.set()
        # A new one, made by nobody who waits: several may wait at a time.
        self._arrival = asyncio.Event()
        self._begin(exchange)

    def _begin(self, exchange: Exchange) -> None:
        self.answer(exchange, self._next_answer(exchange.path))

    def answer(self, exchange: Exchange, answer: Answer) -> None:
        """Begin to answer a request."""
        task = asyncio.create_task(self._answer(exchange, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, exchange: Exchange, answer: Answer) -> None:
        with suppress(ConnectionResetError):
            await answer(exchange)

    def opened(self, connection: "_Connection") -> None:
        self.connection_count += 1
        self._open.add(connection)

    def closed(self, connection: "_Connection") -> None:
        self._open.discard(connection)

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._open):
            connection.abort()


class _Connection(asyncio.Protocol):
    """One connection; h11 is the parser."""

    def __init__(self, target: Target) -> None:
        self.lost = asyncio.Event()
        self._target = target
        self._http = h11.Connection(h11.SERVER)
        self._transport: asyncio.Transport | None = None
        self._request: h11.Request | None = None
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no children of it
        self._target.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._target.closed(self)
        self.lost.set()

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._parse()

    def _parse(self) -> None:
        while True:
            event = self._http.next_event()
            match event:
                case h11.Request():
                    self._request, self._body = event, bytearray()
                case h11.Data():
                    self._body += event.data
                case h11.EndOfMessage():
                    self._target.take(self._exchange())
                case _:
                    return

    def _exchange(self) -> Exchange:
        request = self._request
        assert request is not None
        return Exchange(
            method=request.method.decode(),
            target=request.target.decode(),
            raw_headers=[(name.decode(), value.decode()) for name, value in request.headers.raw_items()],
            body=bytes(self._body),
            received_ms=now_ms(),
            connection=self,
        )

    def respond(self, code: int, headers: list[tuple[str, str]], body: bytes) -> None:
        parts = (h11.Response(status_code=code, headers=headers), h11.Data(body), h11.EndOfMessage())
        self.write(b"".join(self._http.send(part) or b"" for part in parts))
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._parse()
        elif self._transport is not None:
            self._transport.close()

    def write(self, data: bytes) -> None:
        if self._transport is None or self.lost.is_set() or self._transport.is_closing():
            raise ConnectionResetError
        self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@asynccontextmanager
async def listening(host: str = "127.0.0.1", target: Target | None = None) -> AsyncIterator[Target]:
    """Run a target, a new one or the given one."""
    target = target or Target()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(target), host, 0, backlog=1_024)
    target.port = server.sockets[0].getsockname()[1]
    try:
        yield target
    finally:
        server.close()
        await target.aclose()
        await server.wait_closed()


def now_ms() -> int:
    """The wall clock, which is that of the store, too: both are on this machine."""
    return time.time_ns() // 1_000_000


async def passed(instant_ms: int) -> None:
    """Return when the wall clock has passed an instant: what was to happen then is overdue."""
    while (left_ms := instant_ms + 1 - now_ms()) > 0:  # noqa: ASYNC110  nobody signals the time
        await asyncio.sleep(left_ms / 1_000)


async def in_time(act: Callable[[int], Awaitable[_Result]]) -> _Result:
    """Do what has to be done before a wait is over; return what that returned.

    `act` is told how many ms the wait is to take, and begins it. Where the machine was too busy to get to
    the end of it meanwhile it is called again, with a longer wait, and had better use other names.
    """
    for wait_ms in (1_000, 5_000, 25_000):
        over_ms = now_ms() + wait_ms
        try:
            result = await act(wait_ms)
        except (AssertionError, grpc.aio.AioRpcError):
            if now_ms() < over_ms:
                raise
        else:
            if now_ms() < over_ms:
                return result
    raise AssertionError("this machine stands still for too long")
