"""The workers of a supervisor as one: over real unix sockets, with workers that come, go and hang."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from kuueri_grpc.domain.outcome import answered
from kuueri_grpc.telemetry import fleet as fleet_module
from kuueri_grpc.telemetry.admin import serve_admin
from kuueri_grpc.telemetry.fleet import Fleet
from kuueri_grpc.telemetry.metrics import new_registry
from tests.store.ports import Ports, spec
from tests.telemetry.monitored import FREE_PORT, Process
from tests.telemetry.scrape import get, scrape


class Crew:
    """A fleet behind its endpoint, and workers to be started and ended."""

    def __init__(self, ports: Ports, directory: Path, stack: AsyncExitStack) -> None:
        self.fleet = Fleet(new_registry("1.2.3"))
        self.address = ""
        self._ports = ports
        self._directory = directory
        self._stack = stack
        self._running: dict[str, AsyncExitStack] = {}

    async def start(self, name: str) -> Process:
        """Start a worker; one of that name that ran before is a dead one."""
        process = Process(self._ports)
        socket = self._directory / f"{name}-{len(self._running)}.sock"
        self._running[name] = await self._stack.enter_async_context(AsyncExitStack())
        await self._running[name].enter_async_context(process.served(socket))
        self.fleet.join(name, socket)
        return process

    async def stop(self, name: str) -> None:
        """End a worker's endpoint; the fleet is not told."""
        await self._running[name].aclose()


@pytest.fixture
async def crew(ports: Ports, tmp_path: Path) -> AsyncIterator[Crew]:
    async with AsyncExitStack() as stack:
        crew = Crew(ports, tmp_path, stack)
        crew.address = await stack.enter_async_context(serve_admin(FREE_PORT, crew.fleet))
        yield crew


def attempts(process: Process, count: int) -> None:
    for _ in range(count):
        process.telemetry.attempt_ended("p", "q", answered(200, 10), 5)


async def test_sums_what_workers_count(crew: Crew) -> None:
    first, second = await crew.start("1"), await crew.start("2")
    attempts(first, 2)
    attempts(second, 3)
    seen = await scrape(crew.address)
    assert seen.sum("kuueri_attempts_total", outcome="SUCCEEDED") == 5
    assert seen.sum("kuueri_attempt_duration_seconds_count") == 5
    assert seen.sum("kuueri_queue_attempts_total", project="p", queue="q", result="succeeded") == 5
    assert seen.sum("kuueri_ready") == 2
    assert seen.sum("kuueri_workers") == 2
    assert seen.sum("kuueri_build_info", version="1.2.3") == 1
    assert set(seen.by("process_open_fds", "worker")) == {"supervisor", "1", "2"}


async def test_what_is_of_the_store_is_counted_once(crew: Crew, ports: Ports) -> None:
    await ports.subscribe(spec("a"), spec("b"))
    await crew.start("1")
    await crew.start("2")
    assert (await scrape(crew.address)).sum("kuueri_tasks_waiting") == 2


async def test_counts_survive_the_worker(crew: Crew) -> None:
    first, second = await crew.start("1"), await crew.start("2")
    attempts(first, 2)
    attempts(second, 3)
    await scrape(crew.address)
    await crew.stop("1")
    crew.fleet.leave("1")
    seen = await scrape(crew.address)
    assert seen.sum("kuueri_attempts_total") == 5
    assert seen.sum("kuueri_ready") == 1
    assert seen.sum("kuueri_worker_restarts_total") == 0
    attempts(await crew.start("1"), 1)
    seen = await scrape(crew.address)
    assert seen.sum("kuueri_attempts_total") == 6
    assert seen.sum("kuueri_worker_restarts_total") == 1
    assert seen.sum("kuueri_workers") == 2


@pytest.mark.parametrize("returns", [False, True])
async def test_a_worker_that_ends_while_it_is_asked_counts_once(crew: Crew, *, returns: bool) -> None:
    first, second = await crew.start("1"), await crew.start("2")
    attempts(first, 2)
    attempts(second, 3)
    await scrape(crew.address)
    while not second.questions.locked():
        await second.questions.acquire()
    asking = asyncio.create_task(scrape(crew.address))
    await second.questions.acquire()
    crew.fleet.leave("2")
    if returns:
        await crew.start("2")
    seen = await asking
    assert seen.sum("kuueri_attempts_total") == 5
    assert seen.sum("kuueri_workers") == 1


async def test_a_worker_that_comes_again_need_not_have_left(crew: Crew) -> None:
    attempts(await crew.start("1"), 2)
    await scrape(crew.address)
    await crew.stop("1")
    attempts(await crew.start("1"), 3)
    seen = await scrape(crew.address)
    assert seen.sum("kuueri_attempts_total") == 5
    assert seen.sum("kuueri_worker_restarts_total") == 1


async def test_no_count_goes_back_while_a_worker_hangs(crew: Crew) -> None:
    attempts(await crew.start("1"), 2)
    attempts(await crew.start("2"), 3)
    await scrape(crew.address)
    await crew.stop("1")
    seen = await scrape(crew.address)
    assert seen.sum("kuueri_attempts_total") == 5
    assert (seen.sum("kuueri_workers"), seen.sum("kuueri_ready")) == (1, 1)


async def test_a_worker_that_hangs_holds_up_nobody(
    crew: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "_ANSWER_S", 0.05)
    async with silent(tmp_path / "silent.sock") as socket:
        crew.fleet.join("1", socket)
        readiness = await get(crew.address, "/readyz")
        assert readiness.status == 503
        assert readiness.json()["reasons"] == ["worker 1: it does not answer"]
        assert (await scrape(crew.address)).sum("kuueri_workers") == 0


@asynccontextmanager
async def silent(socket: Path) -> AsyncIterator[Path]:
    """A server that accepts connections and never answers."""
    connections: list[asyncio.StreamWriter] = []

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    server = await asyncio.start_unix_server(accept, socket)
    async with server:
        yield socket
        for writer in connections:
            writer.close()


async def test_asks_now_and_then_by_itself(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "_REFRESH_S", 0)
    process = await crew.start("1")
    attempts(process, 4)
    refreshing = asyncio.create_task(crew.fleet.run())
    try:
        # What the first question was answered has been taken in when the second is asked.
        for _ in range(2):
            await process.questions.acquire()
    finally:
        refreshing.cancel()
    await crew.stop("1")
    crew.fleet.leave("1")
    assert (await scrape(crew.address)).sum("kuueri_attempts_total") == 4


async def test_is_ready_with_one_ready_worker(crew: Crew) -> None:
    answer = await get(crew.address, "/readyz")
    assert (answer.status, answer.json()["reasons"]) == (503, ["no worker serves"])
    first, second = await crew.start("1"), await crew.start("2")
    first.obstacles.append("store: gone")
    assert (await get(crew.address, "/readyz")).status == 200
    second.obstacles.append("signals: gone")
    answer = await get(crew.address, "/readyz")
    assert answer.status == 503
    assert answer.json()["reasons"] == ["worker 1: store: gone", "worker 2: signals: gone"]


async def test_lives_whatever_its_workers_do(crew: Crew) -> None:
    process = await crew.start("1")
    process.faults.append("broken")
    assert (await get(crew.address, "/healthz")).status == 200


BROKEN_PAGES = [
    b"this is no page of metrics at all {\n",
    b'kuueri_attempts_total{outcome="SUCCEEDED} 1\n',
    b"# TYPE kuueri_attempts_total nonsense\nkuueri_attempts_total 1\n",
    b"kuueri_attempts_total one\n",
    b'kuueri_queue_attempts_total{queue="q"} 1\n',
    b"kuueri_attempts_total \xff\xfe\n",
    b"[" * 100_000,
    b"kuueri_attempts_total 1\n" * 300_000,
]


@asynccontextmanager
async def answering(socket: Path, body: bytes) -> AsyncIterator[Path]:
    """A worker that answers this to whatever it is asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=nonsense\r\n")
        writer.write(b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body))
        writer.write(body)
        writer.close()

    server = await asyncio.start_unix_server(answer, socket)
    async with server:
        yield socket


@pytest.mark.parametrize("page", BROKEN_PAGES, ids=range(len(BROKEN_PAGES)))
async def test_what_a_worker_says_of_itself_harms_nobody(
    crew: Crew, tmp_path: Path, page: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fleet_module, "_REFRESH_S", 0)
    process = await crew.start("1")
    attempts(process, 4)
    async with answering(tmp_path / "broken.sock", page) as socket:
        crew.fleet.join("2", socket)
        refreshing = asyncio.create_task(crew.fleet.run())
        for _ in range(3):
            await process.questions.acquire()
        seen = await scrape(crew.address)
        assert seen.sum("kuueri_attempts_total") == 4
        assert seen.sum("kuueri_workers") == 1
        readiness = await get(crew.address, "/readyz")
        assert readiness.status == 200
        process.obstacles.append("store: gone")
        reasons = (await get(crew.address, "/readyz")).json()["reasons"]
        assert [reason for reason in reasons if reason.startswith("worker 2: its answer cannot be read")] or [
            reason for reason in reasons if reason == "worker 2: it does not answer"
        ]
        crew.fleet.leave("2")
        assert not refreshing.done()
        refreshing.cancel()
    assert (await scrape(crew.address)).sum("kuueri_attempts_total") == 4
    assert len([r for r in caplog.records if r.levelname in ("WARNING", "ERROR")]) <= 1
