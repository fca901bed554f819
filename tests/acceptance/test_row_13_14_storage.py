"""Rows 13 and 14: what is in the four databases, looked at from outside, and for how long."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
import redis.asyncio
from redis import Redis

from kuueri_grpc.store import keys
from tests.acceptance.caller import Project, after, connected, post, register, retries, state_name
from tests.acceptance.history import assert_expires_in_three_days, records
from tests.acceptance.served import LOOPBACK, PATIENCE_S, Server
from tests.acceptance.targets import Target, held, status
from tests.service.statuses import refusal

HOUR_MS = 3_600_000


class Kind(NamedTuple):
    """A row of the table of keys: a database, what the names of its keys look like, their type."""

    database: int
    pattern: str
    type: bytes


def documented_kinds() -> list[Kind]:
    """Read the table in the documentation of the keys."""
    assert keys.__doc__ is not None
    rows = re.findall(r"^\| (\d)  \| `(\S+)` +\| (\w+) +\|", keys.__doc__, re.MULTILINE)
    kinds = []
    for database, name, kind in rows:
        stem = re.escape(name).replace(r"\{p\}", r"\{\d+\}")
        pattern = re.sub(r"<sha256>", "[0-9a-f]{64}", stem)
        kinds.append(Kind(int(database), re.sub(r"<\w+>", "[^/:]+", pattern), kind.lower().encode()))
    return kinds


def _bytes(part: bytes | str) -> bytes:
    return part if isinstance(part, bytes) else part.encode()


@pytest.fixture
def store(server: Server) -> Iterator[Redis]:
    with Redis.from_url(server.store_url) as store:
        yield store


@pytest.fixture
async def flying(project: Project, target: Target) -> AsyncIterator[str]:
    """A task in flight."""
    task = await project.subscribe(post(target.script("/flying", held(asyncio.Event())), task_id="flying"))
    await target.received("/flying")
    yield task.task_id
    await project.cancel(task.task_id)


async def test_row_13_every_key_is_of_a_documented_kind_and_every_kind_is_there(
    project: Project, target: Target, store: Redis, flying: str
) -> None:
    with_deadline = after(HOUR_MS)
    with_deadline.start_deadline.FromSeconds(60)
    await project.subscribe(post(target.url("/a"), schedule=with_deadline), request_id="mine")
    await project.batch([post(target.url("/c"), schedule=after(HOUR_MS))] * 2, request_id="ours")
    ended = await project.subscribe(post(target.url("/b")))
    await project.ended(ended.task_id)
    purged = await project.subscribe(post(target.url("/c")))
    await project.ended(purged.task_id)
    await project.purge(purged.task_id)
    kinds = documented_kinds()
    assert {kind.type for kind in kinds} == {b"hash", b"list", b"set", b"zset", b"string", b"stream"}

    seen = set()
    for database in range(16):
        store.select(database)
        for key in store.scan_iter(count=1_000):
            matching = [
                kind
                for kind in kinds
                if kind.database == database and re.fullmatch(kind.pattern, key.decode())
            ]
            kept_as = store.type(key)
            if kept_as == b"none":
                continue  # it has expired since
            # A name that fits two kinds is of the one that says more of it.
            kind = max(matching, key=lambda kind: len(kind.pattern))
            assert kind.type == kept_as, key
            seen.add(kind)
    # There only while something is under way that nothing here does: a deletion, a task that was lost twice.
    in_passing = {kind for kind in kinds if kind.pattern.endswith((":closed", "\\~!", "claim:\\~[^/:]+"))}
    assert len(in_passing) == 3
    assert seen == set(kinds) - in_passing


async def test_row_13_the_databases_hold_what_their_names_say(
    project: Project, target: Target, store: Redis, flying: str
) -> None:
    waiting = post(target.url("/waiting?x=1"), task_id="waiting", schedule=after(HOUR_MS), queue="mail")
    waiting.labels["team"] = "billing"
    accepted = await project.subscribe(waiting)
    partition = keys.partition_of(project.project_id, 256)
    tag, owner = f"{{{partition}}}", project.project_id

    store.select(0)
    facts = store.hgetall(keys.project(partition, owner))
    assert (facts[b"id"], facts[b"taskInQueue"]) == (owner.encode(), b"2")
    credentials = store.hgetall(keys.credentials(partition, owner))
    assert len(credentials) == 1
    # The token is kept hashed: nothing in the store would let one in.
    secret_part = project.token.encode()[-16:]
    assert secret_part not in b"".join(map(_bytes, (*credentials, *credentials.values())))

    store.select(1)
    assert store.hget(f"{tag}:task:{owner}/waiting", "state") == b"SCHEDULED"
    assert store.hget(f"{tag}:task:{owner}/flying", "state") == b"DISPATCHING"
    due_ms = accepted.schedule_time.ToMilliseconds()
    assert store.zrange(f"{tag}:queue:{owner}/mail", 0, -1, withscores=True) == [(b"waiting", due_ms)]
    assert store.zscore(f"{tag}:due", f"{owner}/mail") == due_ms
    assert store.zscore(f"{tag}:leases", f"{owner}/flying") is not None
    assert store.zscore(f"{tag}:leases", f"{owner}/waiting") is None
    assert store.zrange(f"{tag}:index:{owner}", 0, -1) == [b"flying", b"waiting"]

    store.select(2)
    config = store.hgetall(f"{tag}:config:{owner}/waiting")
    assert set(config) == {b"request", b"policy", b"labels"}

    store.select(3)
    assert store.llen(f"{tag}:timeline:{owner}/flying") == 2
    # The first event waits in the record, until there is a second.
    assert store.llen(f"{tag}:timeline:{owner}/waiting") == 0
    await project.cancel("waiting")
    assert store.llen(f"{tag}:timeline:{owner}/waiting") == 2


async def test_row_13_a_running_task_has_no_time_to_live(
    project: Project, target: Target, store: Redis, flying: str
) -> None:
    for database, found in records(store, project.project_id, flying).items():
        store.select(database)
        assert [store.ttl(key) for key in found] == [-1] * len(found)


@pytest.mark.parametrize("ending", ["COMPLETED", "FAILED", "CANCELED waiting", "CANCELED in flight"])
async def test_row_14_every_record_of_an_ended_task_is_kept_three_days(
    project: Project, target: Target, store: Redis, ending: str
) -> None:
    answers = {"FAILED": status(500), "CANCELED in flight": held(asyncio.Event())}
    task = post(target.script("/hook", answers.get(ending, status(200))), labels={"a": "b"})
    if ending == "CANCELED waiting":
        task.schedule.CopyFrom(after(HOUR_MS))
    task.retry_policy.CopyFrom(retries(1))
    task_id = (await project.subscribe(task)).task_id
    if ending.startswith("CANCELED"):
        if ending == "CANCELED in flight":
            await target.received("/hook")
        await project.cancel(task_id)
    ended, _ = await project.ended(task_id)

    assert ending.startswith(state_name(ended))
    assert_expires_in_three_days(store, project.project_id, task_id)


async def test_row_14_history_is_gone_after_the_time_that_was_set(tmp_path: Path, target: Target) -> None:
    with Server(tmp_path, *LOOPBACK, env={"TASKS_SERVICE__HISTORY": "2"}) as server:
        async with connected(server.address) as channel, redis.asyncio.from_url(server.store_url) as store:
            await store.config_set("notify-keyspace-events", "Ex")
            async with store.pubsub() as pubsub:
                await pubsub.psubscribe("__keyevent@*__:expired")
                project = await register(channel)
                task = await project.subscribe(post(target.url("/hook")))
                await project.ended(task.task_id)
                expired: set[bytes] = set()
                async with asyncio.timeout(PATIENCE_S):
                    while len(expired) < 3:
                        async for message in pubsub.listen():
                            if message["type"] == "pmessage" and task.task_id.encode() in message["data"]:
                                expired.add(message["channel"])
                                break
            assert expired == {b"__keyevent@%d__:expired" % database for database in (1, 2, 3)}
            refused = await refusal(project.get(task.task_id))
            assert refused.code is grpc.StatusCode.NOT_FOUND
            assert list((await project.list()).tasks) == []
