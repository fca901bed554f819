"""Faults at random from a seed, under load, and then the account.

CHAOS_SECONDS (15) is for how long faults are injected, CHAOS_SEED (random, and printed) repeats a run's
choices; what the processes make of them is not repeated to the microsecond.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

import grpc
import pytest

from tests.acceptance.caller import Project, connected, register
from tests.acceptance.targets import Answer, Exchange, Target, listening, status
from tests.chaos import accounting, faults, world
from tests.chaos.load import Load
from tests.store import invariants

SECONDS = float(os.environ.get("CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.SystemRandom().randrange(10**6))))
#: Starts, ends and the settling beside the faults.
_REST_S = 240
TIMELINE_CAP = 10_000


def answering(draw: random.Random) -> Answer:
    """Answer by path: always well, badly at times, always badly, or late."""

    async def answer(exchange: Exchange) -> None:
        kind = exchange.path.split("/")[1]
        if kind == "slow":
            await asyncio.sleep(draw.uniform(0.1, 2))
        bad = kind == "failing" or (kind == "flaky" and draw.random() < 0.5)
        await status(draw.choice([500, 503, 404]) if bad else 200)(exchange)

    return answer


class Everything(Target):
    """A target that answers every path by one rule: each task has a path of its own."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self._answer_all = answer

    def _next_answer(self, path: str) -> Answer:
        return self._answer_all


@pytest.mark.timeout(SECONDS + _REST_S)
async def test_nothing_acknowledged_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    tell(capsys, f"\nchaos: CHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}")
    draw = random.Random(SEED)
    told: list[str] = []
    everything = Everything(answering(random.Random(SEED + 1)))
    if pytestconfig.getoption("--store") == "cluster":
        stored = world.three_primaries(tmp_path / "store", draw)
    else:
        stored = world.one_server(tmp_path / "store")
    async with (
        listening(target=everything) as target,
        stored as store,
        world.running(tmp_path, store) as world_,
    ):
        async with connected(world_.instances[0].address) as channel:
            project = await register(channel)
        load = Load(world_, project, target, SEED)
        until = asyncio.get_running_loop().time() + SECONDS
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(until))
            group.create_task(faults.inject(world_, draw, until, told))

        # Everything is whole again. What was acknowledged must end now, by itself.
        caller = world_.any_project(project, draw)
        assert caller is not None
        await _serves(caller)
        try:
            settled_s = await accounting.all_ended(caller, load.ledger)
        except AssertionError:
            tell(capsys, f"  faults       {', '.join(told)}")
            await asyncio.to_thread(invariants.check, world_.store.url, world.PARTITIONS, TIMELINE_CAP)
            raise
        account = accounting.Account(load.ledger, target)
        await account.check(caller)
        tell(capsys, _summary(load, told, account, settled_s))
        assert not account.faults, "\n".join(account.faults[:20])
        assert len(load.ledger.acknowledged) > 0
        await asyncio.to_thread(invariants.check, world_.store.url, world.PARTITIONS, TIMELINE_CAP)


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


def _summary(load: Load, told: list[str], account: accounting.Account, settled_s: float) -> str:
    ledger = load.ledger
    return "\n".join(
        [
            f"  faults       {', '.join(told)}",
            f"  acknowledged {len(ledger.acknowledged)} tasks; calls {dict(ledger.calls)}",
            f"  refused      {dict(ledger.refused)}",
            f"  ended        {dict(account.endings)}, {settled_s:.1f} s after the last fault",
            f"  lost         {len(ledger.acknowledged) - account.ended_count}",
            f"  duplicates   {account.duplicates}, {account.recovered} recoveries",
        ]
    )
