"""The cases of `largest`: every script, at the inputs that make it work most."""

import json
import secrets
from collections.abc import Awaitable, Callable

from benchmarks.micro import samples
from benchmarks.micro.largest import HOUR_MS, LABELS, Bench, Call, Case, names, spec
from benchmarks.micro.scripts import PROJECT
from kuueri_grpc.domain.decision import Decision
from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.ports import Credential, Instance, NewTask, Report, Rotation, TaskFilter
from kuueri_grpc.store import keys
from kuueri_grpc.store.instances import RedisInstanceRegistry
from kuueri_grpc.store.projects import MOST_CREDENTIALS, MOST_SIGNING_SECRETS
from kuueri_grpc.store.scripts import Argument, run_alone
from kuueri_grpc.store.vault import Vault

CASES: list[Case] = []

#: Larger than any that an attempt ends with.
_DETAIL = "d" * 200
_PARTITION_QUEUES = 100


def _case(name: str, what: str) -> Callable[[Callable[[Bench, int], Awaitable[Call]]], None]:
    return lambda prepare: CASES.append(Case(name, what, prepare))


def _on_a_large_task(name: str, *arguments: str) -> None:
    @_case(name, "a task of the largest size")
    async def _(bench: Bench, run: int) -> Call:
        task_id = f"large-{name}-{run}"
        await bench.subscribe([spec(task_id, large=True)])
        if name in ("resume", "purge"):
            await bench.stores.tasks.pause(PROJECT, task_id)
        return lambda: bench.run(name, PROJECT, task_id, *arguments)


for _name, *_arguments in (
    ("get",), ("cancel",), ("pause",), ("resume",), ("run", "operation"), ("purge", "operation", "600000")
):  # fmt: skip
    _on_a_large_task(_name, *_arguments)


@_case("subscribe", "a chunk of a batch, as many requests as a message holds")
async def _(bench: Bench, run: int) -> Call:
    specs = [spec(name, body=bytes(300_000)) for name in names(run)]
    return lambda: bench.stores.tasks.subscribe(PROJECT, [NewTask(one) for one in specs], 10_000_000)


@_case("subscribe", "a chunk of small tasks with request ids")
async def _(bench: Bench, run: int) -> Call:
    new = [NewTask(spec(name), name, "f" * 64) for name in names(run)]
    return lambda: bench.stores.tasks.subscribe(PROJECT, new, 10_000_000)


@_case("claim", "a full claim of small tasks")
async def _(bench: Bench, run: int) -> Call:
    await bench.subscribe([spec(name, due=True) for name in names(run)])
    return bench.claim


@_case("claim", "as many queues, and as many leases that have run out")
async def _(bench: Bench, run: int) -> Call:
    await bench.subscribe([spec(name, due=True, queue="gone") for name in names(run, stem="lost")])
    await bench.claim(lease_ms=1)
    await bench.subscribe([spec(name, due=True, queue=name) for name in names(run)])
    return bench.claim


@_case("claim", "a full claim of the largest tasks")
async def _(bench: Bench, run: int) -> Call:
    await bench.subscribe([spec(name, due=True, large=True) for name in names(run)])
    return bench.claim


@_case("report", "attempts that are retried")
async def _(bench: Bench, run: int) -> Call:
    await bench.subscribe([spec(name, due=True) for name in names(run)])
    outcome = Outcome(1_000, None, Reason.TLS, detail=_DETAIL)
    reports = [
        Report(claim.lease, outcome, Decision(Trigger.RETRY, delay_ms=HOUR_MS))
        for claim in await bench.claim()
    ]
    return lambda: bench.stores.execution.report(reports)


@_case("report", "attempts that end their tasks")
async def _(bench: Bench, run: int) -> Call:
    await bench.subscribe([spec(name, due=True) for name in names(run)])
    reports = [
        Report(claim.lease, samples.SUCCESS, Decision(Trigger.COMPLETE)) for claim in await bench.claim()
    ]
    return lambda: bench.stores.execution.report(reports)


@_case("release", "a full chunk of leases")
async def _(bench: Bench, run: int) -> Call:
    await bench.subscribe([spec(name, due=True) for name in names(run)])
    leases = [claim.lease for claim in await bench.claim()]
    return lambda: bench.stores.execution.release(leases)


@_case("renew", "leases of a worker, all of one partition")
async def _(bench: Bench, run: int) -> Call:
    leases = []
    for part in range(10):
        await bench.subscribe([spec(name, due=True) for name in names(run, stem=f"t{part}")])
        leases += [claim.lease for claim in await bench.claim()]
    return lambda: bench.stores.execution.renew(leases, HOUR_MS)


@_case("peek", "a partition")
async def _(bench: Bench, run: int) -> Call:
    return lambda: bench.run("peek")


@_case("backlog", "as many queues as are looked into")
async def _(bench: Bench, run: int) -> Call:
    if run == 0:
        queues = names(run, _PARTITION_QUEUES + 50)
        await bench.subscribe([spec(name, due=True, queue=name) for name in queues])
    return lambda: bench.run("backlog", _PARTITION_QUEUES)


@_case("list", "a filter by labels over tasks with the largest")
async def _(bench: Bench, run: int) -> Call:
    if run == 0:
        await bench.subscribe([spec(name, large=True) for name in names(run, 40)])
    where = TaskFilter(labels={**LABELS, "another": "label"})
    return lambda: bench.stores.tasks.list_tasks(PROJECT, where, 1_000, None)


@_case("list", "the largest tasks")
async def _(bench: Bench, run: int) -> Call:
    if run == 0:
        await bench.subscribe([spec(name, large=True) for name in names(run, 10)])
    return lambda: bench.stores.tasks.list_tasks(PROJECT, TaskFilter(), 1_000, None)


@_case("list", "the largest page of small tasks")
async def _(bench: Bench, run: int) -> Call:
    if run == 0:
        await bench.subscribe([spec(name) for name in names(run, 1_000)])
    return lambda: bench.stores.tasks.list_tasks(PROJECT, TaskFilter(), 1_000, None)


@_case("list", "a filter that no task matches")
async def _(bench: Bench, run: int) -> Call:
    if run == 0:
        await bench.subscribe([spec(name) for name in names(run, 2_000)])
    return lambda: bench.stores.tasks.list_tasks(PROJECT, TaskFilter(queue="none"), 1_000, None)


@_case("timeline", "the largest page")
async def _(bench: Bench, run: int) -> Call:
    if run == 0:
        await bench.subscribe([spec("told", large=True)])
        line = {"n": 1, "t": 1_700_000_000_000, "e": "ERRORED", "a": 1, "r": "TLS", "l": 1, "d": _DETAIL}
        for _ in range(10):
            await bench.in_database(
                3, bench.key(f"timeline:{PROJECT}/told"), "RPUSH", [json.dumps(line)] * 1_000
            )
        await bench.in_database(1, bench.key(f"task:{PROJECT}/told"), "HSET", ["seq", 10_000])
    return lambda: bench.run("timeline", PROJECT, "told", 0, 1_000)


@_case("feed", "as many entries as a watch reads, of full script calls")
async def _(bench: Bench, run: int) -> Call:
    if run == 0:
        for call in range(20):
            await bench.subscribe([spec(name, due=True) for name in names(call)])
            await bench.stores.execution.report(
                [
                    Report(
                        claim.lease,
                        Outcome(1_000, None, Reason.TLS, detail=_DETAIL),
                        Decision(Trigger.RETRY, delay_ms=HOUR_MS),
                    )
                    for claim in await bench.claim()
                ]
            )
    return lambda: bench.run("feed", PROJECT, 0, 20)


@_case("sweep", "a full chunk of expired tasks")
async def _(bench: Bench, run: int) -> Call:
    ended: list[Argument] = []
    for name in names(run, 200):
        ended += (1, f"{PROJECT}/{name}")
    await bench.in_database(1, bench.key("ended"), "ZADD", ended)
    return lambda: bench.run("sweep", 200)


@_case("stale", "the largest tasks, none of which is stale")
async def _(bench: Bench, run: int) -> Call:
    if run == 0:
        await bench.subscribe([spec(name, large=True) for name in names(run, 50)])
    head = Vault(samples.KEYRING).newest_head
    return lambda: bench.run("stale", PROJECT, head, "-inf", "", 200)


@_case("stale", "small tasks, all of which are stale")
async def _(bench: Bench, run: int) -> Call:
    if run == 0:
        await bench.subscribe([spec(name) for name in names(run, 200)])
    return lambda: bench.run("stale", PROJECT, b"another", "-inf", "", 200)


def _reseal(what: str, count: int, *, large: bool) -> None:
    @_case("reseal", what)
    async def _(bench: Bench, run: int) -> Call:
        if run == 0:
            await bench.subscribe([spec(name, large=large) for name in names(run, count)])
        _, _, flat, *_ = await bench.run("stale", PROJECT, b"another", "-inf", "", 200)
        requests: list[Argument] = []
        for task, kept in zip(flat[::2], flat[1::2], strict=True):
            requests += (task, kept[:64], kept)
        return lambda: bench.run("reseal", PROJECT, "", "", len(requests) // 3, *requests)


_reseal("what a step of the largest tasks reads", 10, large=True)
_reseal("what a step of small tasks reads", 200, large=False)


@_case("closed", "many projects that are being deleted")
async def _(bench: Bench, run: int) -> Call:
    await bench.in_database(0, bench.key("closed"), "SADD", names(run, 1_000))
    return lambda: bench.run("closed")


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
    await bench.run_for(name, "project_create", f"{name}@example.com", "key", json.dumps({"h": "h"}), "[]")
    return name


@_case("project_create", "a project")
async def _(bench: Bench, run: int) -> Call:
    return lambda: _opened(bench, f"created{run}")


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


@_case("announce", "an instance beside as many as a large installation has")
async def _(bench: Bench, run: int) -> Call:
    registry = RedisInstanceRegistry(bench.stores.client, bench.runner.observer)
    ids = names(0, 250)

    def instance(instance_id: str) -> Instance:
        roles, key_ids = ("api", "scheduler"), ("key1", "key2")
        return Instance(instance_id, "1.0.0", "host" * 8, 1, roles, 1_700_000_000_000, 1_000, 256, key_ids)

    for instance_id in ids if run == 0 else ():
        await registry.announce(instance(instance_id))
    return lambda: registry.announce(instance(ids[0]))


@_case("free_email", "an address")
async def _(bench: Bench, run: int) -> Call:
    key = keys.email(f"{run}@example.com")
    await bench.stores.client.set(key, PROJECT)
    return lambda: run_alone(bench.stores.client, "free_email", [key], PROJECT)


@_case("note_key", "a key")
async def _(bench: Bench, run: int) -> Call:
    return lambda: run_alone(bench.stores.client, "note_key", [keys.STORE], f"key:{run}", "check")
