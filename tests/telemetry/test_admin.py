"""The admin endpoint of one process, over real HTTP and on a real store."""

import asyncio
from pathlib import Path

import pytest

from kuueri_grpc.domain.outcome import answered
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
