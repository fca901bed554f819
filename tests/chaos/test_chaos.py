"""Faults at random from a seed, under load, and then the account.

CHAOS_SECONDS (10) is for how long faults are injected, at least; CHAOS_SEED (random, and printed) repeats a
run's choices; what the processes make of them is not repeated to the microsecond. A run goes on until it was
hard enough (see `Demand`), and fails where that takes twice its time.
"""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import pytest

from kuueri_grpc.pb.task_service_pb2 import WatchRequest
from tests.acceptance.caller import Project, connected, register
from tests.acceptance.targets import listening
from tests.acceptance.watcher import Watcher
from tests.chaos import accounting, faults, world
from tests.chaos.load import Load
from tests.chaos.pulse import Pulse
from tests.chaos.target import ChaosTarget
from tests.store import invariants

SECONDS = float(os.environ.get("CHAOS_SECONDS", "10"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.SystemRandom().randrange(10**6))))
#: Starts, ends, the settling and the account, beside the faults.
_REST_S = 450
TIMELINE_CAP = 10_000
QUEUE = "q0"
#: For a request that is in the target's socket while an answer to a client is read, beside the stalls of
#: this process. (`test_cancel_race` leaves no slack.)
_SLACK_MS = 250


@dataclass(frozen=True)
class Demand:
    """What a run of so many seconds must have been through, or it has shown little."""

    tasks: int
    worker_kills: int
    store_kills: int
    recoveries: int

    @classmethod
    def of(cls, seconds: float) -> "Demand":
        return cls(
            tasks=round(seconds * 100 / 3),
            worker_kills=max(3, round(seconds / 20)),
            store_kills=max(1, round(seconds / 120)),
            recoveries=round(seconds / 3),
        )

    def lacking(self, load: Load, tally: faults.Tally, recoveries: int) -> list[str]:
        """Return what a run has not been through yet."""
        found = {
            "tasks": (load.ledger.acknowledged_count, self.tasks),
            "worker kills": (tally["worker kills"], self.worker_kills),
            "store kills": (tally["store kills"], self.store_kills),
            "recoveries": (recoveries, self.recoveries),
        }
        return [f"{count} of {least} {name}" for name, (count, least) in found.items() if count < least]


@pytest.mark.timeout(2 * SECONDS + _REST_S)
async def test_nothing_acknowledged_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    tell(capsys, f"\nchaos: CHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}")
    draw, tally, demand, pulse = random.Random(SEED), faults.Tally(), Demand.of(SECONDS), Pulse()
    async with (
        listening(target=ChaosTarget(SEED)) as target,
        a_store(tmp_path, draw, pytestconfig) as store,
        world.running(tmp_path, store) as world_,
    ):
        assert isinstance(target, ChaosTarget)
        async with connected(world_.instances[0].address) as channel:
            project = await register(channel)
        load = Load(world_, project, target, SEED)
        anywhere = partial(world_.any_project, project, random.Random(f"{SEED}/watchers"))
        everything = Watcher("all tasks", WatchRequest(all=True), anywhere)
        queue = Watcher(f"queue {QUEUE}", WatchRequest(queue=QUEUE), anywhere)
        async with beside(pulse.run(), everything.run(), queue.run()):
            await everything.began()
            await queue.began()
            until = asyncio.get_running_loop().time() + SECONDS

            def enough() -> bool:
                left = until - asyncio.get_running_loop().time()
                return left <= -SECONDS or (
                    left <= 0 and not demand.lacking(load, tally, everything.seen["RECOVERED"])
                )

            over = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(load.run(over))
                await faults.inject(world_, SEED, tally, enough)
                over.set()

            # Everything is whole again. What was acknowledged must end now, by itself.
            caller = world_.any_project(project, draw)
            assert caller is not None
            await _serves(caller)
            try:
                settled_s = await accounting.all_ended(caller, load, draw, everything)
            except AssertionError:
                tell(capsys, f"  faults       {dict(tally)}")
                await check_the_store(world_)
                raise
            account = accounting.Account(load, target, lambda at_ms: _SLACK_MS + pulse.before(at_ms))
            await account.check(caller, everything, queue, QUEUE)
        watched = f"{everything.seen.total()} events over {everything.streams} streams"
        tell(capsys, _summary(load, tally, account, settled_s))
        tell(capsys, f"  watched      {watched}; longest stall of this process {pulse.longest_ms} ms")
        assert not account.faults, "\n".join([f"{len(account.faults)} faults", *account.faults[:20]])
        assert demand.lacking(load, tally, account.recovered) == []
        await check_the_store(world_)


def a_store(
    directory: Path, draw: random.Random, config: pytest.Config
) -> AbstractAsyncContextManager[world.Store]:
    """Run what `--store` says."""
    if config.getoption("--store") == "cluster":
        return world.three_primaries(directory / "store", draw)
    return world.one_server(directory / "store")


async def check_the_store(world_: world.World) -> None:
    """Hold the raw data to what is true of every store at every moment."""
    await asyncio.to_thread(invariants.check, world_.store.url, world.PARTITIONS, TIMELINE_CAP)


@asynccontextmanager
async def beside(*work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Do some work while the block runs; what it raises is raised."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        yield
        for task in tasks:
            task.cancel()


def tell(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Print it whether or not the test passes: the seed must be known, the account should be."""
    with capsys.disabled():
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


async def _serves(project: Project) -> None:
    """Return when a server that may have seen an outage just now serves again."""
    async with asyncio.timeout(accounting.SETTLING_S):
        while True:
            try:
                await project.facts()
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(0.1)
            else:
                return


def _summary(load: Load, tally: faults.Tally, account: accounting.Account, settled_s: float) -> str:
    ledger = load.ledger
    kills = ("worker kills", "store kills")
    others = ", ".join(f"{name} {count}" for name, count in sorted(tally.items()) if name not in kills)
    # Of the duplicates none is unexplained where nothing is.
    return "\n".join(
        [
            f"  kills        {tally['worker kills']} of workers, {tally['store kills']} of the store",
            f"  faults       {others}",
            f"  acknowledged {ledger.acknowledged_count} tasks; calls {dict(ledger.calls)}",
            f"  refused      {dict(ledger.refused)}",
            f"  ended        {dict(account.endings)}, {settled_s:.1f} s after the last fault",
            f"  lost         {account.endings['LOST']}",
            f"  recoveries   {account.recovered}",
            f"  duplicates   {account.duplicates}",
            f"  unexplained  {len(account.faults)} {dict(+account.found)}",
        ]
    )
