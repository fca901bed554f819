"""Told to stop with much in flight, a server loses nothing and says what it did."""

import asyncio
import re
import signal
from collections import Counter
from pathlib import Path

import grpc
import grpc.aio
import pytest

from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb import task_service_pb2 as tasks_pb
from tests.acceptance.caller import (
    Project,
    after,
    connected,
    of_type,
    post,
    reason_name,
    register,
    state_name,
    types,
)
from tests.acceptance.targets import OK, Target, held
from tests.outages.valkeys import running
from tests.supervision.calls import not_serving, persistent
from tests.supervision.processes import all_gone, serving

pytestmark = pytest.mark.timeout(300)

ATTEMPTS, WATCHES = 200, 50
#: No lease runs out while a test is going on.
PATIENT = {"TASKS_SERVICE__LEASE_MS": "600000"}
#: It waits, whatever else happens.
LATER = post("http://127.0.0.1:9/", schedule=after(3_600_000))


async def in_flight(project: Project, target: Target, path: str, count: int = ATTEMPTS) -> list[str]:
    """Subscribe tasks to a path, each with its id as the query; return when the target has them all."""
    task_ids = [f"task-{number}" for number in range(count)]
    tasks = [post(f"{target.url(path)}?{task_id}", task_id=task_id) for task_id in task_ids]
    request = tasks_pb.BatchSubscribeRequest(tasks=tasks)
    answer = await project.tasks.BatchSubscribe(request, metadata=project.metadata)
    assert [result.task.task_id for result in answer.results] == task_ids
    await target.received(path, count)
    return task_ids


class Watcher:
    """A Watch, read to its end by a client of its own."""

    def __init__(self, project: Project, task_id: str) -> None:
        self.synced = asyncio.Event()
        self.last = tasks_pb.WatchResponse()
        self.ending = asyncio.create_task(self._read(project, task_id))

    async def _read(self, project: Project, task_id: str) -> grpc.StatusCode:
        try:
            async for message in project.watch(task_id):
                self.last = message
                if message.WhichOneof("message") == "synced":
                    self.synced.set()
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


async def test_attempts_that_do_not_end_in_time_are_handed_back(tmp_path: Path, target: Target) -> None:
    gate = asyncio.Event()
    target.script("/slow", held(gate))
    options = ("--workers", "2", "--grace", "2")
    async with serving(tmp_path, *options, env=PATIENT) as served:
        await served.ready()
        async with connected(served.address) as channel:
            project = await register(channel)
            task_ids = await in_flight(project, target, "/slow")
            watchers = [Watcher(project, task_id) for task_id in task_ids[:WATCHES]]
            await asyncio.gather(*(watcher.synced.wait() for watcher in watchers))
            unhealthy = asyncio.create_task(not_serving(channel))

            served.send(signal.SIGTERM)
            await unhealthy
            endings = await asyncio.gather(*(watcher.ending for watcher in watchers))
            assert set(endings) == {grpc.StatusCode.UNAVAILABLE}
            assert await served.ended() == 0, served.story
        handed_back = re.findall(r"(\d+) attempts did not end in time: .* handed back", served.story)
        assert sum(map(int, handed_back)) == ATTEMPTS
        await all_gone(served.family())

    gate.set()
    async with serving(tmp_path, *options, env=PATIENT) as again:
        await again.ready()
        async with connected(again.address) as channel:
            project = project.on(channel)
            for watcher, task_id in zip(watchers, task_ids, strict=False):
                await resumes(project, task_id, watcher.last)
            for task_id in task_ids:
                task, events = await project.ended(task_id)
                assert (state_name(task), task.attempt_count) == ("COMPLETED", 1)
                assert [reason_name(event) for event in of_type(events, "RECOVERED")] == ["HANDED_BACK"]
        await again.stop()
    assert_each_came(target, task_ids, "/slow", 2)


async def resumes(project: Project, task_id: str, last: tasks_pb.WatchResponse) -> None:
    """A watch that was closed goes on after its last message, without a gap or a repeat."""
    missed = project.watch(task_id, last.resume_token)
    seen = [message.event async for message in missed if message.WhichOneof("message") == "event"]
    assert types(seen) == ["RECOVERED", "DISPATCHED", "SUCCEEDED", "COMPLETED"]


def assert_each_came(target: Target, task_ids: list[str], path: str, count: int) -> None:
    """The target has each task's first attempt `count` times and nothing else."""
    came = Counter((one.query, one.attempt) for one in target.at(path))
    assert came == {(task_id, 1): count for task_id in task_ids}


async def test_attempts_that_end_in_time_are_not_disturbed(tmp_path: Path, target: Target) -> None:
    gate = asyncio.Event()
    target.script("/slow", held(gate))
    async with serving(tmp_path, "--workers", "2", "--grace", "600", env=PATIENT) as served:
        await served.ready()
        async with connected(served.address) as channel:
            project = await register(channel)
            task_ids = await in_flight(project, target, "/slow")
            # Subscribed during the drain: accepted, and left for the next start.
            watcher = Watcher(project, task_ids[0])
            await watcher.synced.wait()
            served.send(signal.SIGTERM)
            assert await watcher.ending is grpc.StatusCode.UNAVAILABLE
            # Its worker may have had none of the attempts, and be gone.
            late = await persistent(lambda: project.subscribe(post(target.url("/late")), "late"))
            gate.set()
            assert await served.ended() == 0, served.story
    assert target.at("/late") == []
    assert_each_came(target, task_ids, "/slow", 1)
    async with serving(tmp_path, "--workers", "2") as again:
        await again.ready()
        async with connected(again.address) as channel:
            project = project.on(channel)
            for task_id in task_ids:
                task, events = await project.ended(task_id)
                assert state_name(task) == "COMPLETED"
                assert of_type(events, "RECOVERED") == []
            await project.ended(late.task_id)
        await again.stop()
    assert_each_came(target, task_ids, "/slow", 1)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_calls_that_come_while_it_goes_are_told_to_try_elsewhere(tmp_path: Path, workers: str) -> None:
    accepted: list[str] = []
    refused: Counter[grpc.StatusCode] = Counter()
    gone = asyncio.Event()

    async def subscribe_on_and_on(project: Project) -> None:
        while not gone.is_set():
            try:
                task = await project.subscribe(LATER)
                accepted.append(task.task_id)
            except grpc.aio.AioRpcError as error:
                refused[error.code()] += 1

    async with serving(tmp_path, "--workers", workers) as served:
        await served.ready()
        async with connected(served.address) as channel, asyncio.TaskGroup() as callers:
            project = await register(channel)
            for _ in range(32):
                callers.create_task(subscribe_on_and_on(project))
            await project.subscribe(LATER, "first")
            await served.stop()
            gone.set()
    # Not CANCELLED, which is what gRPC answers to calls that have arrived when it is stopped.
    assert set(refused) == {grpc.StatusCode.UNAVAILABLE}
    async with serving(tmp_path, "--workers", workers) as again:
        await again.ready()
        async with connected(again.address) as channel:
            project = project.on(channel)
            for task_id in accepted:
                assert state_name(await project.get(task_id)) == "SCHEDULED"
        await again.stop()


async def test_what_one_instance_hands_back_another_takes_at_once(
    tmp_path: Path, target: Target, store: str
) -> None:
    gate = asyncio.Event()
    target.script("/slow", held(gate))
    options = ("--redis-url", store, "--workers", "1", "--grace", "0.5")
    async with serving(tmp_path, *options, env=PATIENT) as leaving:
        await leaving.ready()
        async with connected(leaving.address) as channel:
            project = await register(channel)
            task_ids = await in_flight(project, target, "/slow", 20)
        async with serving(tmp_path, *options, env=PATIENT) as staying:
            await staying.ready()
            await leaving.stop()
            await target.received("/slow", 40)
            gate.set()
            async with connected(staying.address) as channel:
                for task_id in task_ids:
                    task, _ = await project.on(channel).ended(task_id)
                    assert (state_name(task), task.attempt_count) == ("COMPLETED", 1)
            await staying.stop()
    assert_each_came(target, task_ids, "/slow", 2)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_store_that_does_not_answer_does_not_hold_up_the_end(
    tmp_path: Path, target: Target, workers: str
) -> None:
    """The store's time-out is longer than anybody here waits."""
    target.script("/slow", held(asyncio.Event()))
    options = ("--workers", workers, "--grace", "1")
    patient = {**PATIENT, "TASKS_DATABASE__REDIS__TIMEOUT_MS": "60000"}
    async with (
        running(tmp_path / "store") as valkey,
        serving(tmp_path, "--redis-url", valkey.url, *options, env=patient) as served,
    ):
        await served.ready()
        async with connected(served.address) as channel:
            await in_flight(await register(channel), target, "/slow", 20)
            valkey.freeze()
            await served.stop()
        assert "worker_killed" not in served.story
        aborted = re.findall(r"(\d+) attempts were aborted and could not be handed back", served.story)
        assert sum(map(int, aborted)) == 20


async def test_a_grace_time_of_nothing(tmp_path: Path, target: Target) -> None:
    target.script("/slow", held(asyncio.Event()), OK)
    async with serving(tmp_path, "--workers", "1", "--grace", "0", env=PATIENT) as served:
        await served.ready()
        async with connected(served.address) as channel:
            project = await register(channel)
            (task_id,) = await in_flight(project, target, "/slow", 1)
        await served.stop()
    async with serving(tmp_path, "--workers", "1") as again:
        await again.ready()
        async with connected(again.address) as channel:
            task, events = await project.on(channel).ended(task_id)
        assert task.state == task_pb2.TASK_STATE_COMPLETED
        assert [reason_name(event) for event in of_type(events, "RECOVERED")] == ["HANDED_BACK"]
        await again.stop()
