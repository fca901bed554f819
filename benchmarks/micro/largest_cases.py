"""The cases of `largest`: every script, at the inputs that make it work most."""

import json
from collections.abc import Awaitable, Callable

from benchmarks.micro import samples
from benchmarks.micro.largest import HOUR_MS, LABELS, Bench, Call, Case, names, spec
from benchmarks.micro.largest_projects import PROJECT_CASES
from benchmarks.micro.scripts import PROJECT
from kuueri_grpc.domain.decision import Decision
from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.state import Trigger
from kuueri_grpc.domain.timeline import Reason
from kuueri_grpc.ports import Instance, NewTask, Report, TaskFilter
from kuueri_grpc.store import keys
from kuueri_grpc.store.foreign_keys import warn_of_foreign_keys
from kuueri_grpc.store.instances import RedisInstanceRegistry
from kuueri_grpc.store.permissions import check_permissions
from kuueri_grpc.store.scripts import Argument, run_alone
from kuueri_grpc.store.vault import Vault

CASES: list[Case] = [*PROJECT_CASES]

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


def _recall(what: str, *, large: bool) -> None:
    @_case("recall", what)
    async def _(bench: Bench, run: int) -> Call:
        new = [NewTask(spec(name, large=large), name, "f" * 64) for name in names(0)]
        if run == 0:
            await bench.subscribe([one.spec for one in new], requests=True)
        return lambda: bench.stores.tasks.recall(PROJECT, new)


_recall("a repeated chunk of small tasks", large=False)
_recall("a repeated chunk of the largest tasks", large=True)


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


@_case("purged", "as many events as are kept")
async def _(bench: Bench, run: int) -> Call:
    if run == 0:
        line = {"n": 1, "t": 1_700_000_000_000, "e": "ERRORED", "a": 1, "r": "TLS", "l": 1, "d": _DETAIL}
        await bench.in_database(
            1, bench.key(f"request:{PROJECT}/told/1"), "RPUSH", [json.dumps(line)] * 1_001
        )
    return lambda: bench.run("purged", PROJECT, "told", 1)


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


@_case("permitted", "all commands")
async def _(bench: Bench, run: int) -> Call:
    return lambda: check_permissions(bench.stores.client)


@_case("foreign", "a store of many keys")
async def _(bench: Bench, run: int) -> Call:
    if run == 0:
        await bench.subscribe([spec(name) for name in names(0, 2_000)])
    return lambda: warn_of_foreign_keys(bench.stores.client)


@_case("free_email", "an address")
async def _(bench: Bench, run: int) -> Call:
    key = keys.email(f"{run}@example.com")
    await bench.stores.client.set(key, PROJECT)
    return lambda: run_alone(bench.stores.client, "free_email", [key], PROJECT)


@_case("note_key", "a key")
async def _(bench: Bench, run: int) -> Call:
    return lambda: run_alone(bench.stores.client, "note_key", [keys.STORE], f"key:{run}", "check")
