"""The version before this one and this one, side by side on one store, as during a rolling upgrade.

`previous.zip` is the package as it was; `make previous` replaces it, at each release.
"""

import asyncio
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from kuueri_grpc.pb.task_service_pb2 import WatchResponse
from tests.acceptance.caller import (
    Project,
    after,
    connected,
    of_type,
    post,
    reason_name,
    register,
    retries,
    types,
)
from tests.acceptance.served import environment
from tests.acceptance.targets import OK, Target, held, status
from tests.faults.conftest import Measure
from tests.outages.calls import ONE_ATTEMPT
from tests.outages.valkeys import Valkey
from tests.service.statuses import refusal
from tests.store import invariants
from tests.supervision.processes import Served, serving

pytestmark = pytest.mark.timeout(240)

PREVIOUS = Path(__file__).with_name("previous.zip")
PARTITIONS, TIMELINE_CAP = 8, 10_000
HOUR_MS = 3_600_000
ENVIRONMENT = {"TASKS_DATABASE__PARTITIONS": str(PARTITIONS), "TASKS_SERVICE__LEASE_MS": "3000"}


@pytest.fixture
def previous(tmp_path: Path) -> dict[str, str]:
    """An environment in which the version before is what Python imports."""
    place = tmp_path / "previous"
    with zipfile.ZipFile(PREVIOUS) as archive:
        archive.extractall(place)
    env = {**ENVIRONMENT, "PYTHONPATH": str(place)}
    found = subprocess.run(
        [sys.executable, "-c", "import kuueri_grpc; print(kuueri_grpc.__file__)"],
        cwd=tmp_path,
        env=environment(tmp_path, env),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert found.startswith(str(place)), found
    return env


async def next_event(project: Project, task_id: str, resume_token: str = "") -> WatchResponse:
    """Return the message with the first event after a position."""
    async with aclosing(project.watch(task_id, resume_token)) as messages:
        async for message in messages:
            if message.WhichOneof("message") == "event":
                return message
    raise AssertionError("no event")


async def each_is_whole(project: Project, ids: list[str]) -> None:
    """Each has ended after one attempt; one that was in flight when its server was killed says so."""
    for task_id in ids:
        task, events = await project.ended(task_id)
        lost = len(of_type(events, "RECOVERED"))
        assert types(events) == ["SUBSCRIBED", *["DISPATCHED", "RECOVERED"] * lost, *ONE_ATTEMPT[1:]]
        assert task.attempt_count == 1


async def request_ids_are_known(target: Target, older: Project, newer: Project) -> None:
    """What the older one keeps, the newer one answers; the other way round, nothing is made a second time."""
    for owner, stranger in ((older, newer), (newer, older)):
        task = post(target.url("/call"), queue="calls", schedule=after(HOUR_MS))
        request_id = "by-the-older" if owner is older else "by-the-newer"
        made = await owner.subscribe(task, request_id=request_id)
        again = stranger.subscribe(task, request_id=request_id)
        if owner is older:
            assert (await again).task_id == made.task_id
        else:
            assert (await refusal(again)).reason == "REQUEST_ID_REUSED"
        await stranger.cancel(made.task_id)
    assert len((await newer.list(queue="calls")).tasks) == 2


@pytest.mark.parametrize("older_first", [True, False], ids=["upgrade", "downgrade"])
async def test_two_versions_share_a_store(
    tmp_path: Path,
    valkey: Valkey,
    target: Target,
    previous: dict[str, str],
    measure: Callable[[], Measure],
    older_first: bool,
) -> None:
    """What either has accepted, runs, watches or holds is the other's too, and survives its end."""
    envs = [previous, ENVIRONMENT] if older_first else [ENVIRONMENT, previous]
    options = ("--redis-url", valkey.url, "--workers", "1")
    async with serving(tmp_path, *options, env=envs[0], name="first") as first:
        await first.ready()
        async with connected(first.address) as channel:
            one = await register(channel)
            waiting = [
                (await one.subscribe(post(target.url(f"/w{n}"), schedule=after(1_500)))).task_id
                for n in range(10)
            ]
            target.script("/again", status(500), OK)
            retried = (
                await one.subscribe(post(target.url("/again"), retry_policy=retries(1, 1_500)))
            ).task_id
            await one.until(retried, "RETRY_SCHEDULED")
            target.script("/cancelled", held(asyncio.Event()))
            cancelled = (await one.subscribe(post(target.url("/cancelled")))).task_id
            target.script("/lost", held(asyncio.Event()), OK)
            lost = (await one.subscribe(post(target.url("/lost")))).task_id
            (in_flight,) = await target.received("/cancelled")
            await target.received("/lost")
            async with (
                serving(tmp_path, *options, env=envs[1], name="second") as second,
                connected((await second.ready()).address) as other_channel,
            ):
                other = one.on(other_channel)
                # An attempt that the other version holds is stopped.
                await other.cancel(cancelled)
                await in_flight.connection_lost()
                # Tokens of one are good at the other.
                for owner, stranger in ((one, other), (other, one)):
                    told = await next_event(owner, lost)
                    following = await next_event(stranger, lost, told.resume_token)
                    assert [told.event.sequence, following.event.sequence] == [1, 2]
                await request_ids_are_known(target, *((one, other) if older_first else (other, one)))
                theirs = [(await other.subscribe(post(target.url(f"/t{n}")))).task_id for n in range(10)]
                await each_is_whole(one, theirs)
                assert {task.task_id for task in (await other.list(page_size=100)).tasks} == {
                    task.task_id for task in (await one.list(page_size=100)).tasks
                }
                await kill(first)
                began = measure()
                task, events = await other.ended(lost)
                began.tell(lost=0, duplicated=1)
                assert [reason_name(event) for event in of_type(events, "RECOVERED")] == ["LEASE_LOST"]
                assert (task.attempt_count, len(target.at("/lost"))) == (1, 2)
                await each_is_whole(other, waiting)
                task, events = await other.ended(retried)
                assert (task.attempt_count, {one.attempt for one in target.at("/again")}) == (2, {1, 2})
                assert types((await other.ended(cancelled))[1])[-1] == "CANCELED"
                await second.stop()
    await asyncio.to_thread(invariants.check, valkey.url, PARTITIONS, TIMELINE_CAP)


async def kill(served: Served) -> None:
    os.killpg(served.process.pid, signal.SIGKILL)
    await served.ended()
