"""Whoever dies, the others go on or end in order, and nothing is left behind."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.acceptance.caller import connected, post, register
from tests.acceptance.targets import Target, held
from tests.supervision.calls import persistent
from tests.supervision.processes import Served, all_gone, proc, serving
from tests.telemetry.scrape import scrape

pytestmark = pytest.mark.timeout(240)


#: Read by Python when it starts: a worker that does not get as far as to serve.
UNHURRIED = """
import signal, sys
if "kuueri_grpc.worker" in sys.orig_argv:
    signal.pause()
"""


async def serves(served: Served, target: Target) -> None:
    """A task can be subscribed, is sent, and ends."""
    async with connected(served.address) as channel:
        project = await persistent(lambda: register(channel))
        task = await persistent(lambda: project.subscribe(post(target.url("/works"))))
        await project.until(task.task_id, "COMPLETED")


async def test_a_worker_that_is_killed_is_replaced(tmp_path: Path, target: Target) -> None:
    async with serving(tmp_path, "--workers", "2") as served:
        await served.ready()
        first, second = served.workers()
        os.kill(first, signal.SIGKILL)

        ended = await served.logged(rf"WARNING .*worker process {first} was ended by signal 9 \(Killed\)")
        assert "another one starts in 100 ms" in ended.string
        assert not proc(first, "stat"), "a zombie"
        await served.logged("worker process \\d+ serves", count=3)
        workers = served.workers()
        assert second in workers
        assert len(workers) == 2
        await serves(served, target)
        assert len(served.printed) == len((await served.ready()).printed), "it said that it is ready once"
        await served.stop()


async def test_a_worker_that_stands_still_is_replaced(tmp_path: Path, target: Target) -> None:
    env = {"TASKS_WORKER_TIMEOUT": "4"}
    async with serving(tmp_path, "--workers", "2", "--admin-port", "0", env=env) as served:
        await served.ready()
        admin = (await served.logged(r"metrics and health are on (\S+)"))[1]
        first, second = served.workers()
        os.kill(first, signal.SIGSTOP)

        await served.logged(rf"ERROR .*worker process {first} has stood still for \d+ s .*event=worker_hung")
        await served.logged(rf"WARNING .*worker process {first} was ended by signal 9 \(Killed\)")
        await served.logged("worker process \\d+ serves", count=3)
        workers = served.workers()
        assert second in workers
        assert len(workers) == 2
        assert (await scrape(admin)).sum("kuueri_workers_hung_total") == 1
        await serves(served, target)
        await served.stop()


async def test_a_worker_says_where_it_stands(tmp_path: Path) -> None:
    async with serving(tmp_path, "--workers", "2") as served:
        await served.ready()
        os.kill(served.workers()[0], signal.SIGUSR1)
        await served.logged(r"most recent call first")
        await served.logged(r"File .*worker\.py")
        await served.stop()


async def test_workers_are_not_blamed_for_time_in_which_all_stand_still(
    tmp_path: Path, target: Target
) -> None:
    """As in a container that is frozen. The worker is the last to go on, and was silent the longest."""
    async with serving(tmp_path, "--workers", "2", env={"TASKS_WORKER_TIMEOUT": "4"}) as served:
        await served.ready()
        workers = served.workers()
        everybody = [*workers, served.process.pid]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        # Longer than a worker may be silent; nothing could tell that it is over.
        await asyncio.sleep(6)
        for pid in reversed(everybody):
            os.kill(pid, signal.SIGCONT)
        await serves(served, target)
        assert served.workers() == workers
        await served.stop()
        assert "worker_hung" not in served.story


async def test_all_workers_at_once(tmp_path: Path, target: Target) -> None:
    async with serving(tmp_path, "--workers", "2") as served:
        await served.ready()
        for pid in served.workers():
            os.kill(pid, signal.SIGKILL)
        await served.logged("worker process \\d+ serves", count=4)
        await serves(served, target)
        await served.stop()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_an_embedded_store_that_is_killed_is_started_again(
    tmp_path: Path, target: Target, workers: str
) -> None:
    async with serving(tmp_path, "--workers", workers) as served:
        await served.ready()
        async with connected(served.address) as channel:
            project = await register(channel)
            before = await project.subscribe(post(target.url("/before")))
            await project.until(before.task_id, "COMPLETED")
            running = served.workers()

            os.kill(served.store_process(), signal.SIGKILL)
            await served.logged("ERROR .*the embedded store ended; it is started again in 100 ms: .*signal 9")
            await served.logged("the embedded store is back")

            after = await persistent(lambda: project.subscribe(post(target.url("/after")), "once"))
            await persistent(lambda: project.until(after.task_id, "COMPLETED"))
            assert (await persistent(lambda: project.get(before.task_id))).attempt_count == 1
        assert served.workers() == running, "a worker did not live through it"
        await served.stop()


async def test_without_their_supervisor_workers_finish_what_they_do_and_end(
    tmp_path: Path, target: Target, store: str
) -> None:
    """The supervisor is killed, the store is not its own: nothing need be done twice."""
    gate = asyncio.Event()
    url = target.script("/held", held(gate))
    options = ("--redis-url", store, "--workers", "2", "--grace", "600")
    async with serving(tmp_path, *options) as served:
        await served.ready()
        async with connected(served.address) as channel:
            project = await register(channel)
            task = await project.subscribe(post(url))
            await target.received("/held")
        family = served.family()

        served.send(signal.SIGKILL)
        await served.logged("it is stopping", count=2)
        # The port is free, although a worker is busy.
        async with serving(tmp_path, *options, "--port", served.address.rpartition(":")[2]) as successor:
            await successor.ready()
            gate.set()
            await all_gone(family)
            async with connected(successor.address) as channel:
                ended, _ = await project.on(channel).ended(task.task_id)
            assert (ended.attempt_count, len(target.at("/held"))) == (1, 1)
            await successor.stop()


async def test_with_its_supervisor_the_embedded_store_ends_too(tmp_path: Path) -> None:
    async with serving(tmp_path, "--workers", "2") as served:
        await served.ready()
        family = served.family()
        assert served.store_process() in family
        served.send(signal.SIGKILL)
        assert await served.ended() == -signal.SIGKILL
        await all_gone(family)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop_it_ends_with_all_its_processes(tmp_path: Path, number: signal.Signals) -> None:
    async with serving(tmp_path, "--workers", "2") as served:
        await served.ready()
        family = served.family()
        assert len(family) == 3
        served.send(number)
        assert await served.ended() == 0, served.story
        await all_gone(family)
        assert not [line for line in served.log if " WARNING " in line or " ERROR " in line], served.story


async def test_told_to_stop_while_workers_start_it_ends_with_all_its_processes(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(UNHURRIED)
    async with serving(tmp_path, "--workers", "3", env={"PYTHONPATH": str(tmp_path)}) as served:
        await served.logged("embedded store: process")
        served.send(signal.SIGTERM)
        family = served.family()
        assert await served.ended() == 0, served.story
        await all_gone(family)
        assert served.printed == []


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_terminal_that_is_closed_stops_the_server_in_order(
    tmp_path: Path, target: Target, workers: str
) -> None:
    gate = asyncio.Event()
    url = target.script("/held", held(gate))
    async with serving(tmp_path, "--workers", workers, "--grace", "600") as served:
        await served.ready()
        family = served.family()
        async with connected(served.address) as channel:
            project = await register(channel)
            await project.subscribe(post(url))
            await target.received("/held")
        served.send(signal.SIGHUP)
        await served.logged("event=drain_began")
        # It has not ended: there is an attempt in flight.
        served.send(signal.SIGHUP)
        gate.set()
        assert await served.ended() == 0, served.story
        await served.logged("event=drain_ended", count=int(workers))
        await all_gone(family)
