"""SIGTERM with a thousand attempts and a thousand watchers: all are told or finished, and it exits with 0."""

import asyncio
import re
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.acceptance.caller import Project, connected, of_type, reason_name, register, state_name
from tests.acceptance.targets import OK, Exchange, Target
from tests.faults.conftest import Measure
from tests.outages.valkeys import Valkey
from tests.supervision.calls import not_serving
from tests.supervision.processes import all_gone, serving
from tests.supervision.test_drain import PATIENT, Watcher, in_flight

pytestmark = pytest.mark.timeout(400)

ATTEMPTS, WATCHES = 1_000, 1_000
ENVIRONMENT = {
    **PATIENT,
    "TASKS_SERVICE__MAX_PER_HOST": str(ATTEMPTS),
    "TASKS_SERVICE__MAX_IN_FLIGHT": str(ATTEMPTS),
}


async def test_a_thousand_attempts_and_a_thousand_watchers(
    tmp_path: Path, valkey: Valkey, target: Target, measure: Callable[[], Measure]
) -> None:
    """Half of the attempts are answered within the grace time, the others never."""
    gate, never = asyncio.Event(), asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        await (gate if int(exchange.query.rpartition("-")[2]) % 2 else never).wait()
        await OK(exchange)

    target.script("/slow", answer)
    options = ("--redis-url", valkey.url, "--workers", "2", "--grace", "8")
    async with serving(tmp_path, *options, env=ENVIRONMENT) as served:
        await served.ready()
        async with connected(served.address) as channel:
            project = await register(channel)
            task_ids = await in_flight(project, target, "/slow", ATTEMPTS)
            watchers = [Watcher(project, task_id) for task_id in task_ids[:WATCHES]]
            await asyncio.gather(*(watcher.synced.wait() for watcher in watchers))
            unhealthy = asyncio.create_task(not_serving(channel))

            served.send(signal.SIGTERM)
            began = measure()
            await unhealthy
            endings = Counter(await asyncio.gather(*(watcher.ending for watcher in watchers)))
            assert set(endings) == {grpc.StatusCode.UNAVAILABLE}
            assert all(watcher.last.resume_token for watcher in watchers)
            gate.set()
            assert await served.ended() == 0, served.story
        began.tell(lost=0, duplicated=ATTEMPTS // 2, note="until the exit; the duplicates were handed back")
        assert "was killed" not in served.story
        handed_back = re.findall(r"(\d+) attempts did not end in time: .* handed back", served.story)
        assert sum(map(int, handed_back)) == ATTEMPTS // 2
        await all_gone(served.family())

    never.set()
    async with serving(tmp_path, *options, env=ENVIRONMENT, name="again") as again:
        await again.ready()
        async with connected(again.address) as channel:
            await is_whole(project.on(channel), task_ids)
            # A token of the first server goes on at the second where it was left.
            for number, missed in ((0, 4), (1, 2)):
                stream = project.on(channel).watch(task_ids[number], watchers[number].last.resume_token)
                told = [one async for one in stream if one.WhichOneof("message") == "event"]
                assert len(told) == missed
        await again.stop()
    came = Counter(exchange.query for exchange in target.at("/slow"))
    assert came == {task_id: 1 if number % 2 else 2 for number, task_id in enumerate(task_ids)}


async def is_whole(project: Project, task_ids: list[str]) -> None:
    """Every task has completed; what was sent twice says why."""
    for number, task_id in enumerate(task_ids):
        task, events = await project.ended(task_id)
        assert (state_name(task), task.attempt_count) == ("COMPLETED", 1)
        reasons = [reason_name(event) for event in of_type(events, "RECOVERED")]
        assert reasons == ([] if number % 2 else ["HANDED_BACK"])
