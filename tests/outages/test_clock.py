"""The host's clock is minutes off, or jumps: the store's clock counts."""

import asyncio
import os
from pathlib import Path

import grpc.aio

from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb import task_pb2
from tests.acceptance.caller import (
    Project,
    after,
    duration,
    ms,
    of_type,
    post,
    register,
    repeats,
    retries,
    timestamp,
    types,
)
from tests.acceptance.targets import Target, held, now_ms, passed, status
from tests.outages.calls import ONE_ATTEMPT
from tests.outages.servers import LEASE_MS, serving
from tests.outages.valkeys import Valkey

#: Far less than the clock is off by, and far more than a busy machine takes.
MINUTE_MS = 60_000

#: Read by Python when it starts. Every look at the clock finds another time.
JUMPING_CLOCK = """
import itertools, pathlib, time
offsets_s = itertools.cycle((300, -300, 0))
read, read_ns = time.time, time.time_ns
time.time = lambda: read() + next(offsets_s)
time.time_ns = lambda: read_ns() + next(offsets_s) * 10**9
pathlib.Path(__file__).with_name("in_force").touch()
"""


async def test_host_clock_jump(tmp_path: Path, valkey: Valkey, target: Target) -> None:
    clock = tmp_path / "clock"
    clock.mkdir()
    (clock / "sitecustomize.py").write_text(JUMPING_CLOCK)
    path = os.pathsep.join([str(clock), *filter(None, [os.environ.get("PYTHONPATH")])])
    async with serving(tmp_path / "server", valkey.url, {"PYTHONPATH": path}) as (_, channel):
        assert (clock / "in_force").exists()
        project = await register(channel)
        await asyncio.gather(
            due_when_it_should_be(project, target),
            tries_again_when_it_should(project, target),
            keeps_its_lease(project, target),
            keeps_its_former_token(channel),
        )


async def due_when_it_should_be(project: Project, target: Target) -> None:
    at_ms = now_ms() + 400
    for path, schedule in (("/delay", after(400)), ("/at", task_pb2.Schedule(at=timestamp(at_ms)))):
        schedule.start_deadline.CopyFrom(duration(MINUTE_MS))
        accepted = await project.subscribe(post(target.url(path), schedule=schedule))
        _, events = await project.ended(accepted.task_id)
        assert types(events) == ONE_ATTEMPT
        (dispatched,) = of_type(events, "DISPATCHED")
        (request,) = target.at(path)
        assert 0 <= ms(dispatched.create_time) - ms(accepted.schedule_time) < MINUTE_MS
        assert abs(request.received_ms - ms(dispatched.create_time)) < MINUTE_MS
        assert abs(1_000 * int(request.headers["webhook-timestamp"]) - request.received_ms) < MINUTE_MS


async def tries_again_when_it_should(project: Project, target: Target) -> None:
    url = target.script("/again", status(500), status(200))
    accepted = await project.subscribe(
        post(url, retry_policy=retries(1, interval_ms=1_000), repeat_policy=repeats(1, interval_ms=300))
    )
    _, events = await project.ended(accepted.task_id)
    for waiting in (*of_type(events, "RETRY_SCHEDULED"), *of_type(events, "REPEAT_SCHEDULED")):
        following = events[waiting.sequence]
        assert 0 <= ms(following.create_time) - ms(waiting.next_time) < MINUTE_MS
    assert len(target.at("/again")) == 3


async def keeps_its_lease(project: Project, target: Target) -> None:
    answers = asyncio.Event()
    target.script("/held", held(answers))
    accepted = await project.subscribe(post(target.url("/held")))
    (request,) = await target.received("/held")
    await passed(request.received_ms + LEASE_MS * 3 // 2)
    answers.set()
    _, events = await project.ended(accepted.task_id)
    assert types(events) == ONE_ATTEMPT


async def keeps_its_former_token(channel: grpc.aio.Channel) -> None:
    """Whether a token has expired is a matter of the store's time, too."""
    project = await register(channel)
    request = projects_pb.RotateTokenRequest(grace=duration(MINUTE_MS))
    answer = await project.projects.RotateToken(request, metadata=project.metadata)
    for token in (project.token, answer.token):
        holder = Project(channel, project.project_id, token, "")
        assert (await holder.list()).next_page_token == ""
