"""A worker ends, or stands still, at the worst moments: its task runs again, once, as the same attempt."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.caller import Project, connected, of_type, post, reason_name, register, types
from tests.acceptance.targets import Target, held
from tests.faults.conftest import Measure
from tests.outages.valkeys import Valkey
from tests.supervision.processes import Served, serving

pytestmark = pytest.mark.timeout(240)

#: Kept by a worker that stands still for two seconds.
LEASE = {"TASKS_SERVICE__LEASE_MS": "3000"}

#: Read by Python when a process starts: kills it, once for all processes, at the named moment.
FATAL = """
import os, pathlib, signal, sys

def die_once():
    try:
        (pathlib.Path(__file__).with_name("died")).open("x").close()
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)

if "kuueri_grpc.worker" in sys.orig_argv:
    from kuueri_grpc.dispatcher.http import HttpDispatcher
    send = HttpDispatcher.send

    async def send_or_die(self, delivery, may_start):
        if {moment!r} == "before it is sent":
            die_once()
        outcome = await send(self, delivery, may_start)
        if {moment!r} == "after the answer":
            die_once()
        return outcome

    HttpDispatcher.send = send_or_die
"""


def assert_same_attempt(target: Target, path: str, deliveries: int) -> None:
    came = target.at(path)
    assert len(came) == deliveries
    assert {(one.headers["webhook-id"], one.attempt) for one in came} == {(came[0].headers["webhook-id"], 1)}


async def ends_after_one_loss(project: Project, task_id: str) -> None:
    task, events = await project.ended(task_id)
    assert types(events) == ["SUBSCRIBED", "DISPATCHED", "RECOVERED", "DISPATCHED", "SUCCEEDED", "COMPLETED"]
    assert [reason_name(event) for event in of_type(events, "RECOVERED")] == ["LEASE_LOST"]
    assert (task.attempt_count, task.retry_count) == (1, 0)


@pytest.mark.parametrize(
    ("moment", "deliveries"), [("before it is sent", 1), ("after the answer", 2)], ids=["before", "answered"]
)
async def test_a_worker_that_dies_around_a_request(
    tmp_path: Path,
    valkey: Valkey,
    target: Target,
    measure: Callable[[], Measure],
    moment: str,
    deliveries: int,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(FATAL.format(moment=moment))
    env = {**LEASE, "PYTHONPATH": str(tmp_path)}
    async with serving(tmp_path, "--redis-url", valkey.url, "--workers", "2", env=env) as served:
        await served.ready()
        async with connected(served.address) as channel:
            project = await register(channel)
            task = await project.subscribe(post(target.url("/one")))
        await served.logged("was ended by signal 9")
        began = measure()
        async with connected(served.address) as channel:
            await ends_after_one_loss(project.on(channel), task.task_id)
        began.tell(lost=0, duplicated=deliveries - 1)
        await served.stop()
    assert_same_attempt(target, "/one", deliveries)


async def test_a_worker_that_dies_after_its_request_was_sent(
    tmp_path: Path, valkey: Valkey, target: Target, measure: Callable[[], Measure]
) -> None:
    target.script("/one", held(asyncio.Event()), held(open_gate()))
    async with serving(tmp_path, "--redis-url", valkey.url, "--workers", "2", env=LEASE) as served:
        await served.ready()
        async with connected(served.address) as channel:
            project = await register(channel)
            task = await project.subscribe(post(target.url("/one")))
            await target.received("/one")
            began = measure()
            for pid in served.workers():
                os.kill(pid, signal.SIGKILL)
        await served.logged("worker process \\d+ serves", count=4)
        async with connected(served.address) as channel:
            await ends_after_one_loss(project.on(channel), task.task_id)
        began.tell(lost=0, duplicated=1)
        await served.stop()
    assert_same_attempt(target, "/one", 2)


async def test_a_worker_that_stands_still_past_its_lease(
    tmp_path: Path, valkey: Valkey, target: Target, measure: Callable[[], Measure]
) -> None:
    """It goes on with an answer in its hands: the task has moved on, and it changes nothing."""
    gate = asyncio.Event()
    target.script("/one", held(gate), held(open_gate()))
    options = ("--redis-url", valkey.url, "--workers", "1")
    async with serving(tmp_path, *options, env=LEASE, name="frozen") as frozen:
        await frozen.ready()
        async with connected(frozen.address) as channel:
            project = await register(channel)
            task = await project.subscribe(post(target.url("/one")))
            await target.received("/one")
        async with serving(tmp_path, *options, env=LEASE, name="other") as other:
            await other.ready()
            frozen.send(signal.SIGSTOP)
            began = measure()
            async with connected(other.address) as channel:
                await ends_after_one_loss(project.on(channel), task.task_id)
                began.tell(lost=0, duplicated=1)
                gate.set()
                frozen.send(signal.SIGCONT)
                await too_late(frozen)
                await ends_after_one_loss(project.on(channel), task.task_id)
            await other.stop()
        await frozen.stop()
    assert_same_attempt(target, "/one", 2)


async def too_late(served: Served) -> None:
    """Its report is refused by the fencing token, or it finds that its lease is gone before it reports."""
    await served.logged(
        "an outcome came too late and changed nothing|a lease was lost; its attempt was aborted"
    )


def open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate
