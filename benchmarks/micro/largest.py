"""Each script of the store at the largest input that limits allow, by the store's own clock.

A script holds up every other client of the store for as long as it runs. `tests/store/test_script_cost.py`
compares what is measured here with the bound that all of them have, and fails where a script has no case.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.micro import samples
from benchmarks.micro.scripts import PROJECT, Stores, opened
from kuueri_grpc.domain.errors import KuueriError
from kuueri_grpc.domain.task import HttpTarget, Schedule, TaskSpec
from kuueri_grpc.engine.sizes import MOST_EACH
from kuueri_grpc.ports import Claim, NewTask, Room
from kuueri_grpc.store import keys
from kuueri_grpc.store.embedded import EmbeddedValkey
from kuueri_grpc.store.projects import RedisProjectStore
from kuueri_grpc.store.scripts import Argument, ScriptRunner, script
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.vault import Vault

HOUR_MS = 3_600_000
#: The ports give a script so many tasks in a call.
CHUNK = 100
_QUEUE_LIMIT = 10_000_000
#: A task as large as limits allow: 1 MiB of body, 80 KiB of headers, 64 labels of 12 bytes a character.
_BODY = bytes(1_048_576)
_HEADERS = {f"x-{n}": "v" * 8_000 for n in range(10)}
LABELS = {f"{n:063d}": "\U0001d11e" * 255 for n in range(64)}

#: A script of known length, and what it takes on the reference: 1 us for each command.
_KNOWN = """
local times = 1000
for i = 1, times do
  redis.call('HSET', KEYS[1], 'field' .. i, ARGV[1] .. i)
end
return times
"""
_REFERENCE_US = 1_000

#: What is measured; may be called once.
Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Bench:
    """A store, and what the cases fill it with."""

    stores: Stores
    runner: ScriptRunner
    projects: RedisProjectStore

    async def run(self, name: str, *arguments: Argument) -> Any:
        """Run a script on the project's partition."""
        return await self.runner.run(name, self.stores.partition, arguments)

    async def run_for(self, project: str, name: str, *arguments: Argument) -> Any:
        """Run a script for another project, on its partition."""
        return await self.runner.run(name, _partition(project), (project, *arguments))

    def key(self, stem: str) -> str:
        """Return a key of the project's partition."""
        return f"{{{self.stores.partition}}}:{stem}"

    async def in_database(self, database: int, key: str, command: str, arguments: Sequence[Argument]) -> None:
        """Run a command with a key in one of the databases."""
        source = f"redis.call('SELECT', {database}) redis.call('{command}', KEYS[1], unpack(ARGV))"
        await self.stores.client.eval(source, 1, key, *arguments)

    async def subscribe(
        self, specs: Sequence[TaskSpec], project: str = PROJECT, requests: bool = False
    ) -> None:
        """Subscribe tasks, few enough in a call; `requests`: with a request id each."""
        some = 2 if any(len(spec.target.body) > 100_000 for spec in specs) else 50
        new = [NewTask(spec, spec.task_id if requests else "", "f" * 64) for spec in specs]
        for start in range(0, len(new), some):
            results = await self.stores.tasks.subscribe(project, new[start : start + some], _QUEUE_LIMIT)
            assert not any(isinstance(result, KuueriError) for result in results)

    async def claim(self, lease_ms: int = HOUR_MS, project: str = PROJECT) -> Sequence[Claim]:
        """Claim what is due in a project's partition."""
        limits = {_partition(project): CHUNK}
        room = Room(sizes=dict.fromkeys(limits, MOST_EACH), larger_from=_partition(project))
        (batch,) = await self.stores.execution.claim(limits, secrets.token_hex(4), lease_ms, room)
        return batch.claims


def _partition(project: str) -> int:
    return keys.partition_of(project, StoreSettings().partitions)


@dataclass(frozen=True, slots=True)
class Case:
    """A script at a large input; `prepare` makes a run (0, 1, ...) ready and returns what is measured."""

    script: str
    what: str
    prepare: Callable[[Bench, int], Awaitable[Call]]

    def __str__(self) -> str:
        return f"{self.script}: {self.what}"


@contextlib.asynccontextmanager
async def bench(url: str) -> AsyncIterator[Bench]:
    """Open an empty store, which notes meanwhile what all scripts take."""
    async with opened(url) as ports:
        partitions, vault = StoreSettings().partitions, Vault(samples.KEYRING)
        runner = ScriptRunner(ports.client, StoreSettings())
        projects = RedisProjectStore(ports.client, runner, partitions, _QUEUE_LIMIT, vault)
        await _note(ports.client, slower_than_us=0, most=10_000)
        try:
            yield Bench(ports, runner, projects)
        finally:
            await _note(ports.client, slower_than_us=10_000, most=128)  # as it is by itself


async def _note(client: Any, slower_than_us: int, most: int) -> None:
    numbers = ("slowlog-log-slower-than", slower_than_us, "slowlog-max-len", most)
    await client.execute_command("CONFIG", "SET", *numbers)


@dataclass(frozen=True, slots=True)
class Taken:
    """What the longest call of a case's script takes (us), and what that is at the pace of the reference."""

    us: int
    reference_us: int


async def worst(bench: Bench, case: Case, bound_us: int, most_runs: int) -> Taken:
    """Return what the longest call of a case's script takes: of each call the least of some runs.

    Other processes of the machine only make it longer, so it is run again while it is over the bound. They
    slow the processor down as well: where a script of known length takes longer than on the reference, so
    may the case.
    """
    client, wanted = bench.stores.client, script(case.script)
    await client.script_load(wanted.source)
    least: list[int] = []
    pace_us = 0
    for run in range(most_runs):
        call = await case.prepare(bench, run)
        await client.execute_command("SLOWLOG", "RESET")
        await call()
        taken = await _taken_us(client, wanted.sha)
        assert taken, f"{case} does not run the script"
        least = [min(pair) for pair in zip(least, taken, strict=False)] if least else taken
        if max(least) <= bound_us:
            return Taken(max(least), max(least))
        pace_us = min(pace_us or await _pace_us(client), await _pace_us(client))
        if _at_reference(max(least), pace_us) <= bound_us:
            break
    return Taken(max(least), _at_reference(max(least), pace_us))


def _at_reference(us: int, pace_us: int) -> int:
    return round(us * min(1.0, _REFERENCE_US / pace_us))


async def _pace_us(client: Any) -> int:
    """Return what a script of known length takes: the least of some runs."""
    sha = await client.script_load(_KNOWN)
    await client.execute_command("SLOWLOG", "RESET")
    for _ in range(10):
        await client.evalsha(sha, 1, "{pace}", "x")
    return min(await _taken_us(client, sha if isinstance(sha, str) else sha.decode()))


async def all_cases(directory: Path, cases: Sequence[Case], runs: int) -> dict[str, int]:
    """Return what the longest call of each case takes (us), each on an empty store in the directory."""
    taken = {}
    async with EmbeddedValkey(directory) as embedded:
        for case in cases:
            async with bench(embedded.url) as ready:
                taken[str(case)] = (await worst(ready, case, 0, runs)).us
                await ready.stores.client.flushall()
    return taken


async def _taken_us(client: Any, sha: str) -> list[int]:
    # Each: number, time, duration, words of the command ...; the latest first.
    entries = await client.execute_command("SLOWLOG", "GET", "-1")
    return [
        duration
        for _, _, duration, words, *_ in reversed(entries)
        if words[0].lower() == b"evalsha" and words[1] == sha.encode()
    ]


def spec(
    name: str, *, due: bool = False, queue: str = "default", body: bytes = b"", large: bool = False
) -> TaskSpec:
    """Return a task that is due at once or much later; `large`: in all that it may be large in."""
    target = HttpTarget(
        "https://target.example/hook", headers=_HEADERS if large else {}, body=_BODY if large else body
    )
    schedule = Schedule() if due else Schedule(delay_ms=HOUR_MS)
    return TaskSpec(name, target, queue, schedule, labels=LABELS if large else {})


def names(run: int, count: int = CHUNK, stem: str = "t") -> list[str]:
    """Return names for the tasks of a run."""
    return [f"{stem}{run}-{n}" for n in range(count)]
