"""Sealing anew: everything, once, resumable, and never over what others have written meanwhile."""

from contextlib import aclosing

import pytest

from kuueri_grpc.crypto.keyring import EncryptionKey, Keyring
from kuueri_grpc.domain.task import HttpTarget, Schedule, TaskSpec
from kuueri_grpc.ports import NewTask
from kuueri_grpc.process.rotation import KeyRotation
from kuueri_grpc.store import codec, keys
from kuueri_grpc.store.rotation import Rotation, Tally
from kuueri_grpc.store.tasks import RedisTaskStore
from kuueri_grpc.store.vault import Vault
from tests.keys import KEYRING
from tests.store.ports import HOUR_MS, PROJECT, Ports

NEW = KEYRING.behind(EncryptionKey("newer1", b"n" * 32))
NEWEST = Vault(Keyring((NEW.newest,)))
OTHER_PROJECT = "project1111111111"


def target(body: str) -> HttpTarget:
    return HttpTarget("https://target.example/hook", body=body.encode())


def spec(task_id: str, body: str = "as it was") -> TaskSpec:
    return TaskSpec(task_id, target(body), schedule=Schedule(delay_ms=HOUR_MS))


def rotation(ports: Ports, batch: int = 3) -> Rotation:
    return Rotation(ports.client, ports.runner, ports.settings.partitions, Vault(NEW), batch)


async def whole(rotation: Rotation) -> Tally:
    """Go over everything; return the last tally."""
    return [tally async for tally in rotation.run()][-1]


def requests(ports: Ports) -> dict[str, bytes]:
    """Return what is kept of all requests, by `project/task`."""
    configs = ports.raw().databases[keys.CONFIGURATION]
    kept = {key.partition(":config:")[2]: entry.fields or {} for key, entry in configs.items()}
    return {name: fields["request"] for name, fields in kept.items()}


def stale(ports: Ports) -> list[str]:
    return [name for name, kept in requests(ports).items() if not kept.startswith(NEWEST.newest_head)]


async def test_all_projects_and_tasks_are_sealed_anew_once(ports: Ports) -> None:
    await ports.create_project(OTHER_PROJECT)
    names = [f"task-{i}" for i in range(10)]
    for project in (PROJECT, OTHER_PROJECT):
        await ports.subscribe(*(spec(name, f"{project}/{name}") for name in names), project_id=project)

    tally = await whole(rotation(ports))

    assert (tally.projects, tally.of_projects, tally.records) == (2, 2, 20)
    assert (tally.resealed, tally.unreadable) == (22, 0)  # the signing secrets of each project are one
    assert stale(ports) == []
    for name, kept in requests(ports).items():
        project, _, task_id = name.partition("/")
        assert NEWEST.open_request(project, task_id, kept) == target(name)
    for project in (PROJECT, OTHER_PROJECT):
        record = ports.raw().databases[0][keys.project(keys.partition_of(project, 4), project)].fields
        assert record is not None
        assert NEWEST.live_signing(project, record["signing"], 0) == ("whsec_first",)
    assert (await whole(rotation(ports))).resealed == 0


async def test_a_request_id_that_reads_like_a_project_is_none(ports: Ports) -> None:
    """On a cluster the keys of both are in one database."""
    await ports.try_subscribe(NewTask(spec("a"), "{0}:project:ghost", "digest"))

    assert (await whole(rotation(ports))).of_projects == 1


@pytest.mark.parametrize("batch", [1, 2, 7, 100])
async def test_tasks_of_one_instant_are_all_found(ports: Ports, batch: int) -> None:
    """Their places in the index may have the same score."""
    names = [f"task-{i}" for i in range(9)]
    await ports.subscribe(*(spec(name) for name in names))
    index = f"{{{keys.partition_of(PROJECT, 4)}}}:index:{PROJECT}"
    same = [part for name in names[2:6] for part in ("1700000000000000", name)]
    await ports.run_in(keys.EXECUTION, "redis.call('ZADD', KEYS[1], unpack(ARGV))", [index], *same)

    assert (await whole(rotation(ports, batch))).records == 9
    assert stale(ports) == []


async def test_a_run_that_was_cut_short_is_taken_up(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"task-{i}") for i in range(10)))
    async with aclosing(rotation(ports).run()) as steps:
        assert (await anext(steps)).records == 3
    assert len(stale(ports)) == 7

    assert (await whole(rotation(ports))).resealed == 7
    assert stale(ports) == []


async def test_what_was_written_between_reading_and_replacing_stays(ports: Ports) -> None:
    """A task purged and subscribed anew, a task purged, and a signing secret rotated, in that moment."""
    await ports.subscribe(spec("remade"), spec("gone"), spec("kept"))
    renewed = RedisTaskStore(ports.runner, ports.settings, Vault(NEW))

    class Interrupted(Rotation):
        async def _run(self, name: str, project_id: str, *arguments: object) -> object:
            if name == "reseal":
                for task_id in ("remade", "gone"):
                    await ports.tasks.cancel(PROJECT, task_id)
                    await ports.tasks.purge(PROJECT, task_id)
                await renewed.subscribe(PROJECT, [NewTask(spec("remade", "anew"))], 100)
                await ports.projects.rotate_signing_secret(PROJECT, "whsec_second", HOUR_MS)
            return await super()._run(name, project_id, *arguments)  # type: ignore[arg-type]

    interrupted = Interrupted(ports.client, ports.runner, ports.settings.partitions, Vault(NEW))
    tally = await whole(interrupted)

    assert tally.resealed == 1  # the one that was kept
    assert set(requests(ports)) == {f"{PROJECT}/remade", f"{PROJECT}/kept"}
    assert (await renewed.get(PROJECT, "remade")).spec.target == target("anew")
    assert (await whole(rotation(ports))).resealed == 1  # the signing secrets, as they are by now
    record = ports.raw().databases[0][keys.project(keys.partition_of(PROJECT, 4), PROJECT)].fields
    assert record is not None
    assert NEWEST.live_signing(PROJECT, record["signing"], 0) == ("whsec_second", "whsec_first")


async def test_a_record_that_does_not_open_is_counted_and_stays(ports: Ports) -> None:
    await ports.subscribe(spec("damaged"), spec("whole"))
    config = f"{{{keys.partition_of(PROJECT, 4)}}}:config:{PROJECT}/damaged"
    await ports.run_in(keys.CONFIGURATION, "redis.call('HSET', KEYS[1], 'request', 'damaged')", [config])
    await ports.client.hset(
        keys.project(keys.partition_of(PROJECT, 4), PROJECT), "signing", codec.pack_signing([("x", None)])
    )

    tally = await whole(rotation(ports))

    assert (tally.resealed, tally.unreadable) == (1, 2)
    assert requests(ports)[f"{PROJECT}/damaged"] == b"damaged"


async def test_the_time_to_live_of_an_ended_task_stays(ports: Ports) -> None:
    await ports.subscribe(spec("a"))
    await ports.tasks.cancel(PROJECT, "a")

    await whole(rotation(ports))

    assert stale(ports) == []  # and the check after every test finds its time to live


async def test_what_a_repeated_call_finds_done_counts_as_its_own(ports: Ports) -> None:
    """The client repeats a call whose answer was lost; the first one had replaced everything."""
    await ports.subscribe(*(spec(f"task-{i}") for i in range(5)))

    class Repeating(Rotation):
        async def _run(self, name: str, project_id: str, *arguments: object) -> object:
            if name == "reseal":
                await super()._run(name, project_id, *arguments)  # type: ignore[arg-type]
            return await super()._run(name, project_id, *arguments)  # type: ignore[arg-type]

    repeating = Repeating(ports.client, ports.runner, ports.settings.partitions, Vault(NEW))

    assert (await whole(repeating)).resealed == 6  # the signing secrets are one


async def test_all_that_was_sealed_anew_is_counted_however_often_it_goes_over_them(ports: Ports) -> None:
    await ports.subscribe(*(spec(f"task-{i}") for i in range(3)))
    rotation = KeyRotation(ports.client, NEW, ports.settings.partitions, batch=100)
    later = iter([5, 0])

    async for tally in rotation.run():
        if tally.projects == tally.of_projects:  # at the end of a time; a server goes on with the old key
            await ports.subscribe(*(spec(f"later-{i}") for i in range(next(later, 0))))

    assert rotation.resealed == 3 + 1 + 5


async def test_a_step_is_bounded_by_the_bytes_that_it_looks_at(ports: Ports) -> None:
    """Those that need no sealing are read as well."""
    await ports.subscribe(*(spec(f"task-{i}", "x" * 400_000) for i in range(8)))
    await whole(rotation(ports, batch=100))

    records = [tally.records async for tally in rotation(ports, batch=100).run()]

    assert records == [2, 4, 6, 8, 8, 8]
