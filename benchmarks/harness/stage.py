"""All that a run needs: a target, a server with an empty store, a project, everything warmed up."""

import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import workload
from benchmarks.harness.arrivals import Deliveries, deliveries
from benchmarks.harness.client import Client, connected
from benchmarks.harness.server import Server, serving
from benchmarks.harness.target import Target, receiving
from benchmarks.harness.usage import Meter
from benchmarks.model import BenchmarkFailed, Options

_WARM_UP_TASKS = 100
#: No arrival for this long means that none comes any more; longer than a lost lease takes to be noticed.
PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What a run plays on."""

    directory: Path
    server: Server
    target: Target
    client: Client

    def meter(self) -> Meter:
        """Return a meter that has just started."""
        return Meter(self.server, self.target)

    async def subscribe(self, dues_ms: Sequence[int]) -> dict[str, int]:
        """Subscribe a new task for each due time; see `Client.subscribe`."""
        return await self.client.subscribe(self.target.url, workload.new_prefix(), dues_ms)

    async def delivered(self, due_ms: dict[str, int], others: int = 0) -> Deliveries:
        """Return how the tasks arrived once all but `others` have ended, or nothing arrives any more."""
        until_due_s = max(0.0, max(due_ms.values()) / 1_000 - time.time())
        await self.target.wait_for(len(due_ms), until_due_s + PATIENCE_S)
        await self.client.all_ended(PATIENCE_S, others)
        return deliveries(await self.target.arrivals(), due_ms)


@contextlib.asynccontextmanager
async def staged(options: Options, *, target_delay_s: float = 0.0) -> AsyncIterator[Stage]:
    """Set up, and take away what was set up."""
    async with (
        prepared(options, target_delay_s=target_delay_s) as (directory, target),
        opened(options, directory, target) as stage,
    ):
        yield stage


@contextlib.asynccontextmanager
async def prepared(options: Options, *, target_delay_s: float = 0.0) -> AsyncIterator[tuple[Path, Target]]:
    """Make the directory, and the target, of one server or of several one after the other."""
    with tempfile.TemporaryDirectory(prefix="kuueri-bench-") as name:
        directory = Path(name)
        async with receiving(options.target, directory, delay_s=target_delay_s) as target:
            yield directory, target


@contextlib.asynccontextmanager
async def opened(options: Options, directory: Path, target: Target) -> AsyncIterator[Stage]:
    """Start a server on an empty store, with a project, and warm it up."""
    async with serving(options, directory) as server, connected(server.address) as client:
        stage = Stage(directory, server, target, client)
        await _warm_up(stage)
        yield stage


async def _warm_up(stage: Stage) -> None:
    """Send some tasks the whole way, so that nothing that follows pays for a first time."""
    await stage.target.mark()
    due_ms = await stage.subscribe([now_ms()] * _WARM_UP_TASKS)
    seen = await stage.delivered(due_ms)
    if seen.lost:
        raise BenchmarkFailed(f"{seen.lost} of {seen.expected} tasks of the warm-up did not arrive")
    await stage.target.mark()


def now_ms() -> int:
    """Return the time; server, store and target of a benchmark share this machine's clock."""
    return time.time_ns() // 1_000_000
