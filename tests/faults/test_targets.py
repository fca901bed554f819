"""Targets that misbehave: theirs ends or waits, and nobody else's is held up by it."""

import asyncio
import gzip
from contextlib import suppress
from pathlib import Path

import pytest

from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import Project, duration, post, reason_name, register, state_name, types
from tests.acceptance.targets import Answer, Exchange, Target, dripping, held, listening
from tests.outages.calls import ONE_ATTEMPT
from tests.outages.servers import serving
from tests.outages.valkeys import Valkey

pytestmark = pytest.mark.timeout(240)

OTHERS = 50
#: What the server reads of an answer at the most here, and what may be in flight before a target notices.
MOST_ANSWERED = 1_000_000
MOST_READ = MOST_ANSWERED + 8 * 1_048_576


class Flood:
    """Sends without end, 10 GB if it were let; counts what was taken from it."""

    def __init__(self, head: bytes, piece: bytes) -> None:
        self.sent = 0
        self._head, self._piece = head, piece

    async def __call__(self, exchange: Exchange) -> None:
        connection, transport = exchange.connection, _transport(exchange)
        connection.write(self._head)
        with suppress(ConnectionResetError):
            while self.sent < 10 * 1_024**3:
                connection.write(self._piece)
                self.sent += len(self._piece)
                while transport.get_write_buffer_size() and not connection.lost.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(0)  # a transport tells its protocol alone when it has room


_HEAD = b"HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(bytes(64 * 1_048_576))


def _transport(exchange: Exchange) -> asyncio.Transport:
    transport = exchange.connection._transport
    assert transport is not None
    return transport


def hang() -> Answer:
    return held(asyncio.Event())


async def ends(project: Project, url: str, timeout_ms: int) -> task_pb2.Task:
    task = await project.subscribe(post(url, attempt_timeout=duration(timeout_ms)))
    ended, _ = await project.ended(task.task_id)
    return ended


async def test_hanging_dripping_flooding_and_exploding_targets_hold_nobody_up(
    tmp_path: Path, valkey: Valkey, target: Target
) -> None:
    flood = Flood(_HEAD + b"\r\n", b"x" * 65_536)
    bomb = Flood(_HEAD + b"content-encoding: gzip\r\n\r\n", BOMB)
    bad: dict[str, Answer] = {
        "/hangs": hang(),
        "/drips": dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", b"x"),
        "/floods": flood,
        "/explodes": bomb,
    }
    for path, answer in bad.items():
        target.script(path, answer)
    limit = {"TASKS_MODULE__HTTP__MAX_ANSWER_LENGTH": str(MOST_ANSWERED)}
    async with serving(tmp_path / "server", valkey.url, limit) as (_, channel), listening() as other:
        project = await register(channel)
        # Longer than anything here takes: that others end meanwhile does not come from a time-out.
        slow = [
            await project.subscribe(post(target.url(path), attempt_timeout=duration(600_000)))
            for path in ("/hangs", "/drips")
            for _ in range(20)
        ]
        await target.received("/hangs", 20)
        await target.received("/drips", 20)
        for path in ("/floods", "/explodes"):
            ended = await ends(project, target.url(path), 600_000)
            assert state_name(ended) == "FAILED"
            assert reason_name(ended.last_attempt) == "CONNECTION_LOST"
            assert not ended.last_attempt.HasField("status_code")
            _, events = await project.ended(ended.task_id)
            assert "the answer has more than 1,000,000 bytes" in events[2].description

        ids = [(await project.subscribe(post(other.url(f"/{n}")))).task_id for n in range(OTHERS)]
        for task_id in ids:
            assert types((await project.ended(task_id))[1]) == ONE_ATTEMPT

        for task in slow:
            assert state_name(await project.get(task.task_id)) == "DISPATCHING"
            await project.cancel(task.task_id)
        assert flood.sent < MOST_READ
        assert bomb.sent < MOST_READ


@pytest.mark.parametrize("path", ["/hangs", "/drips"])
async def test_the_deadline_of_an_attempt_ends_it(
    tmp_path: Path, valkey: Valkey, target: Target, path: str
) -> None:
    target.script("/hangs", hang())
    target.script("/drips", dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", b"x"))
    async with serving(tmp_path / "server", valkey.url) as (_, channel):
        task = await ends(await register(channel), target.url(path), 300)
        assert state_name(task) == "FAILED"
        assert reason_name(task.last_attempt) == "TIMEOUT"
        await target.at(path)[0].connection_lost()


SLOW = 400
#: So few that one target could take all, if it were let.
TIGHT = {"TASKS_SERVICE__MAX_IN_FLIGHT": "16", "TASKS_SERVICE__MAX_PER_HOST": "4"}


async def test_one_slow_host_cannot_take_every_slot(tmp_path: Path, valkey: Valkey, target: Target) -> None:
    """Its tasks are due first and in the same queue: others still have theirs sent, and its own all end."""
    gate = asyncio.Event()
    paths = [f"/slow/{n}" for n in range(SLOW)]
    for path in paths:
        target.script(path, held(gate))
    async with serving(tmp_path / "server", valkey.url, TIGHT) as (_, channel), listening() as other:
        project = await register(channel)
        results = await project.batch([post(target.url(path)) for path in paths])
        slow = [result.task.task_id for result in results]

        ids = [(await project.subscribe(post(other.url(f"/{n}")))).task_id for n in range(OTHERS)]
        for task_id in ids:
            assert types((await project.ended(task_id))[1]) == ONE_ATTEMPT
        assert len(target.exchanges) == 4
        assert {state_name(await project.get(task_id)) for task_id in slow[-20:]} == {"SCHEDULED"}

        gate.set()
        for task_id in slow:
            assert types((await project.ended(task_id))[1]) == ONE_ATTEMPT
    came = [exchange.path for exchange in target.exchanges]
    assert sorted(came) == sorted(paths), "each was sent once"


async def test_a_long_success_is_read_to_its_end_and_one_that_breaks_off_is_none(
    tmp_path: Path, valkey: Valkey, target: Target
) -> None:
    ended = asyncio.Event()
    size, piece = 20_000_000, b"x" * 100_000

    async def stream(exchange: Exchange, sent: int) -> None:
        connection, transport = exchange.connection, _transport(exchange)
        connection.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(sent // len(piece)):
            connection.write(piece)
            while transport.get_write_buffer_size() and not connection.lost.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0)

    async def whole(exchange: Exchange) -> None:
        await stream(exchange, size)
        ended.set()

    async def broken(exchange: Exchange) -> None:
        await stream(exchange, size - len(piece))
        _transport(exchange).close()

    target.script("/whole", whole)
    target.script("/broken", broken)
    async with serving(tmp_path / "server", valkey.url) as (_, channel):
        project = await register(channel)
        task = await ends(project, target.url("/whole"), 600_000)
        assert ended.is_set()
        assert (state_name(task), task.last_attempt.status_code) == ("COMPLETED", 200)

        task = await ends(project, target.url("/broken"), 600_000)
        assert (state_name(task), reason_name(task.last_attempt)) == ("FAILED", "CONNECTION_LOST")
        assert not task.last_attempt.HasField("status_code")


@pytest.mark.parametrize("after_ms", [0, 3])
async def test_a_target_that_closes_after_each_answer_costs_no_attempt(
    tmp_path: Path, valkey: Valkey, target: Target, after_ms: int
) -> None:
    """Without `connection: close`: the next request may meet a connection that is just being closed."""

    def answer_and_close(exchange: Exchange) -> None:
        exchange.connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        asyncio.get_running_loop().call_later(after_ms / 1_000, _transport(exchange).close)

    async def closing(exchange: Exchange) -> None:
        answer_and_close(exchange)

    paths = [f"/closing/{number}" for number in range(200)]
    for path in paths:
        target.script(path, closing)
    async with serving(tmp_path / "server", valkey.url) as (_, channel):
        project = await register(channel)
        ids = [(await project.subscribe(post(target.url(path)))).task_id for path in paths]
        for task_id, path in zip(ids, paths, strict=True):
            _, events = await project.ended(task_id)
            assert types(events) == ONE_ATTEMPT
            # A second request for it is on the timeline.
            requests = len(target.at(path))
            assert requests == 1 or "(tried twice: " in events[2].description
