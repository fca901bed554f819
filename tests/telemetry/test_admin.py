"""The admin endpoint of one process, over real HTTP and on a real store."""

import asyncio
import logging
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from kuueri_grpc.domain.outcome import answered
from kuueri_grpc.telemetry import admin_server
from kuueri_grpc.telemetry.admin import serve_admin
from kuueri_grpc.telemetry.metrics import new_registry
from kuueri_grpc.telemetry.monitor import ProcessMonitor
from tests.store.ports import Ports, spec
from tests.telemetry.monitored import FREE_PORT, Process
from tests.telemetry.scrape import get, numbers, scrape


@pytest.fixture
def process(ports: Ports) -> Process:
    return Process(ports)


async def test_lives_until_something_broke_down_for_good(process: Process) -> None:
    async with process.served() as address:
        answer = await get(address, "/healthz")
        assert (answer.status, answer.json()) == (200, {"alive": True, "reasons": []})
        process.faults.append("a loop broke down")
        answer = await get(address, "/healthz")
        assert (answer.status, answer.json()) == (503, {"alive": False, "reasons": ["a loop broke down"]})


async def test_is_ready_while_nothing_is_in_the_way(process: Process) -> None:
    async with process.served() as address:
        answer = await get(address, "/readyz")
        assert (answer.status, answer.json()) == (200, {"ready": True, "reasons": []})
        process.obstacles += ["store: it is loading", "server: it is stopping"]
        answer = await get(address, "/readyz")
        assert answer.status == 503
        assert answer.json() == {
            "ready": False,
            "reasons": ["store: it is loading", "server: it is stopping"],
        }
        assert (await get(address, "/healthz")).status == 200
        process.obstacles.clear()
        assert (await get(address, "/readyz")).status == 200


async def test_metrics_come_in_the_format_that_is_asked_for(process: Process) -> None:
    async with process.served() as address:
        plain = await get(address, "/metrics")
        assert plain.content_type.startswith("text/plain; version=0.0.4")
        assert "# EOF" not in plain.text
        modern = await get(address, "/metrics", accept="application/openmetrics-text; version=1.0.0")
        assert modern.content_type.startswith("application/openmetrics-text; version=1.0.0")
        assert modern.text.endswith("# EOF\n")


async def test_metrics_are_of_the_process_and_of_the_store(process: Process, ports: Ports) -> None:
    await ports.subscribe(spec("a"), spec("b"))
    process.telemetry.attempt_ended("p", "q", answered(200, 1), 1)
    async with process.served() as address:
        seen = await scrape(address)
        assert seen.sum("kuueri_attempts_total", outcome="SUCCEEDED") == 1
        assert seen.sum("kuueri_tasks_waiting") == 2
        assert seen.sum("kuueri_tasks_due") == 2
        assert seen.sum("kuueri_ready") == 1
        assert seen.sum("process_resident_memory_bytes") > 0
        process.obstacles.append("store: gone")
        own = await scrape(address, "/metrics?store=no")
        assert own.sum("kuueri_attempts_total") == 1
        assert own.sum("kuueri_ready") == 0
        assert not own.has("kuueri_tasks_waiting")


async def test_serves_on_a_unix_socket(process: Process, tmp_path: Path) -> None:
    socket = tmp_path / "admin.sock"
    async with process.served(socket) as address:
        assert address == str(socket)
        assert (await get(socket, "/healthz")).status == 200
        assert numbers((await get(socket, "/metrics")).text).sum("kuueri_ready") == 1


async def test_a_port_in_use_is_said_to_be(process: Process) -> None:
    async with process.served() as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            async with process.served(("127.0.0.1", port)):
                pass


async def test_the_rest_is_not_found(process: Process) -> None:
    async with process.served() as address:
        assert (await get(address, "/")).status == 404


async def test_answers_while_the_process_is_busy_with_others(process: Process) -> None:
    async with process.served() as address:
        answers = await asyncio.gather(*(get(address, "/metrics") for _ in range(20)))
        assert {answer.status for answer in answers} == {200}


async def test_a_process_that_is_not_wired_yet_is_starting() -> None:
    async with serve_admin(FREE_PORT, ProcessMonitor(new_registry("1.2.3"))) as address:
        assert (await get(address, "/healthz")).status == 200
        answer = await get(address, "/readyz")
        assert (answer.status, answer.json()["reasons"]) == (503, ["server: it is starting"])
        seen = await scrape(address)
        assert seen.sum("kuueri_build_info", version="1.2.3") == 1
        assert seen.sum("kuueri_ready") == 0
        assert not seen.has("kuueri_tasks_waiting")


async def talk(address: str, sent: bytes) -> bytes:
    """Send bytes on a connection of their own; return all that comes back."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    try:
        return await reader.read()
    finally:
        writer.close()


GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage\r\n\r\n",
    b"GET / HTTP/9.9.9\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nhost: a\r\nx: " + 20_000 * b"y" + b"\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
]


async def test_garbage_is_one_line_in_the_log_and_no_traceback(
    process: Process, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("kuueri_grpc.telemetry.admin_server.requests"), "filters", [])
    async with process.served() as address:
        for _ in range(5):
            for garbage in GARBAGE:
                answer = await talk(address, garbage)
                assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), (garbage, answer)
        assert (await get(address, "/healthz")).status == 200
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.exc_info is None
    assert record.event == "admin_request_broken"  # type: ignore[attr-defined]


async def test_a_connection_is_for_one_request(process: Process) -> None:
    async with process.served() as address:
        request = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
        assert (await talk(address, 3 * request)).count(b"HTTP/1.1 200") == 1


async def test_clients_that_send_nothing_keep_nobody_out(process: Process) -> None:
    async with process.served() as address, AsyncExitStack() as stack:
        host, _, port = address.rpartition(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(200)]
        for _, writer in silent:
            stack.callback(writer.close)
        assert (await get(address, "/metrics")).status == 200
        ended = 0
        async with asyncio.timeout(60):
            for reader, _ in silent[: -admin_server._MOST_CONNECTIONS]:
                with suppress(ConnectionResetError):
                    assert await reader.read() == b""
                ended += 1
        assert ended == 200 - admin_server._MOST_CONNECTIONS


async def test_a_client_that_takes_its_time_is_let_go(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_server, "_LONGEST_S", 0.05)
    async with process.served() as address, asyncio.timeout(60):
        with suppress(ConnectionResetError):
            assert await talk(address, b"GET /metrics HTTP/1.1\r\nhost:") == b""
