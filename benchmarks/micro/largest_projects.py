"""The cases of `largest`: scripts on projects, their tokens and secrets."""

import itertools
import json
import secrets
from collections.abc import Awaitable, Callable

from benchmarks.micro import samples
from benchmarks.micro.largest import HOUR_MS, Bench, Call, Case, names, spec
from benchmarks.micro.scripts import PROJECT
from kuueri_grpc.ports import Credential, Rotation
from kuueri_grpc.store import keys
from kuueri_grpc.store.project_listing import CHUNK
from kuueri_grpc.store.projects import MOST_CREDENTIALS, MOST_SIGNING_SECRETS
from kuueri_grpc.store.settings import StoreSettings

PROJECT_CASES: list[Case] = []


def _case(name: str, what: str) -> Callable[[Callable[[Bench, int], Awaitable[Call]]], None]:
    return lambda prepare: PROJECT_CASES.append(Case(name, what, prepare))


async def _credentials(bench: Bench, count: int) -> None:
    """Let the project have so many tokens."""
    have = await bench.projects.credentials(PROJECT)
    for _ in range(count - len(have)):
        key_id = f"key{secrets.token_hex(4)}"
        await bench.projects.add_credential(
            Credential(PROJECT, key_id, secrets.token_bytes(32), display_name="n" * 64), None
        )


@_case("credential_add", "the last token that a project may have")
async def _(bench: Bench, run: int) -> Call:
    if run > 0:
        await bench.projects.remove_credential(PROJECT, f"last{run - 1}")
    await _credentials(bench, MOST_CREDENTIALS - 1)
    return lambda: bench.projects.add_credential(
        Credential(PROJECT, f"last{run}", b"d" * 32, display_name="n" * 64), None
    )


@_case("credential_remove", "of as many tokens as a project may have")
async def _(bench: Bench, run: int) -> Call:
    await _credentials(bench, MOST_CREDENTIALS)
    key_id = (await bench.projects.credentials(PROJECT))[-1].key_id
    return lambda: bench.projects.remove_credential(PROJECT, key_id)


@_case("rotate_token", "of as many tokens as a project may have")
async def _(bench: Bench, run: int) -> Call:
    await _credentials(bench, MOST_CREDENTIALS - 1)
    caller = (await bench.projects.credentials(PROJECT))[0].key_id
    rotation = Rotation(PROJECT, caller, f"rotated{run}", b"r" * 32, HOUR_MS, "request")
    return lambda: bench.projects.rotate_token(rotation)


@_case("rotate_signing", "as many secrets as a project may have")
async def _(bench: Bench, run: int) -> Call:
    for _ in range(MOST_SIGNING_SECRETS - 2 if run == 0 else 0):
        await bench.projects.rotate_signing_secret(PROJECT, samples.SIGNING_SECRET, HOUR_MS)
    return lambda: bench.projects.rotate_signing_secret(PROJECT, samples.SIGNING_SECRET, 1)


async def _opened(bench: Bench, name: str) -> str:
    """Make a project; return its id."""
    await _create(bench, name, "key")
    return name


async def _create(bench: Bench, name: str, key_id: str) -> None:
    """Make a project, or repeat the call that made it, with another first credential."""
    facts = (f"{name}@example.com", key_id, json.dumps({"h": key_id}), "[]", "request", HOUR_MS, "1")
    await bench.run_for(name, "project_create", *facts, keys.CREDENTIALS_CHANNEL)


@_case("project_create", "a project")
async def _(bench: Bench, run: int) -> Call:
    return lambda: _opened(bench, f"created{run}")


@_case("project_create", "a repeated call")
async def _(bench: Bench, run: int) -> Call:
    name = await _opened(bench, f"repeated{run}")
    return lambda: _create(bench, name, "another")


@_case("project_list", "a full page")
async def _(bench: Bench, run: int) -> Call:
    def partition(name: str) -> int:
        return keys.partition_of(name, StoreSettings().partitions)

    names_here = (f"listed{n}" for n in itertools.count())
    beside = (name for name in names_here if partition(name) == partition(PROJECT))
    for name in itertools.islice(beside, CHUNK if run == 0 else 0):
        await _opened(bench, name)
    return lambda: bench.run("project_list", "", CHUNK)


@_case("project_limit", "a project")
async def _(bench: Bench, run: int) -> Call:
    return lambda: bench.run("project_limit", PROJECT, 1_000)


@_case("project_close", "a project")
async def _(bench: Bench, run: int) -> Call:
    name = await _opened(bench, f"to-close{run}")
    return lambda: bench.run_for(name, "project_close", keys.CREDENTIALS_CHANNEL)


@_case("project_claim", "a project")
async def _(bench: Bench, run: int) -> Call:
    name = await _opened(bench, f"to-claim{run}")
    await bench.projects.close(name)
    return lambda: bench.projects.claim_deletion(name, HOUR_MS)


@_case("project_end", "small tasks that wait")
async def _(bench: Bench, run: int) -> Call:
    name = await _opened(bench, f"ends-waiting{run}")
    await bench.subscribe([spec(task, queue=task) for task in names(run, 50)], name)
    await bench.projects.close(name)
    return lambda: bench.projects.end_tasks(name, None)


@_case("project_end", "the largest tasks, in flight")
async def _(bench: Bench, run: int) -> Call:
    name = await _opened(bench, f"ends-in-flight{run}")
    await bench.subscribe([spec(task, due=True, large=True) for task in names(run, 50)], name)
    await bench.claim(project=name)
    await bench.projects.close(name)
    return lambda: bench.projects.end_tasks(name, None)


@_case("project_end", "the largest tasks, which wait")
async def _(bench: Bench, run: int) -> Call:
    name = await _opened(bench, f"ends-large{run}")
    await bench.subscribe([spec(task, large=True) for task in names(run, 50)], name)
    await bench.projects.close(name)
    return lambda: bench.projects.end_tasks(name, None)


@_case("project_erase", "the largest tasks")
async def _(bench: Bench, run: int) -> Call:
    name = await _opened(bench, f"erased{run}")
    await bench.subscribe([spec(task, large=True) for task in names(run, 50)], name)
    return lambda: bench.projects.erase_tasks(name)


@_case("project_forget", "request ids")
async def _(bench: Bench, run: int) -> Call:
    name = await _opened(bench, f"forgotten{run}")
    await bench.subscribe([spec(task) for task in names(run, 600)], name, requests=True)
    return lambda: bench.projects.forget_requests(name)


@_case("project_drop", "a project with a feed")
async def _(bench: Bench, run: int) -> Call:
    name = await _opened(bench, f"dropped{run}")
    await bench.subscribe([spec(task) for task in names(run, 2_000)], name)
    await bench.projects.close(name)
    return lambda: bench.run_for(name, "project_drop")
