"""At rest: what cannot be seen in the store, and what becomes of a record that does not open."""

import pytest

from kuueri_grpc.crypto.keyring import EncryptionKey, Keyring
from kuueri_grpc.domain.decision import Decision
from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import UNREADABLE_TARGET, HttpTarget, TaskSpec
from kuueri_grpc.domain.timeline import EventType, Reason
from kuueri_grpc.ports import NewTask, Report, TaskFilter, UnfitStore
from kuueri_grpc.store import codec, keys
from kuueri_grpc.store.connection import initialise
from kuueri_grpc.store.key_registry import KeyRegistry
from kuueri_grpc.store.vault import Vault
from tests.keys import KEYRING, VAULT
from tests.store.ports import HOUR_MS, PROJECT, SUCCESS, Ports, spec

OTHER = Keyring((EncryptionKey("other1", b"o" * 32),))
SECRET = "what-nobody-may-see"
TARGET = HttpTarget(
    f"https://target.example/{SECRET}?{SECRET}",
    headers={"x-token": SECRET},
    query_params={SECRET: SECRET},
    body=SECRET.encode(),
)
DAMAGE = {
    "a flipped bit": lambda kept: kept[:-1] + bytes((kept[-1] ^ 1,)),
    "a cut": lambda kept: kept[:-1],
    "nothing of it left": lambda _: b"\x00",
    "a request in clear": lambda _: codec.pack_request(TARGET),
    "another key's name": lambda kept: kept.replace(b"tests1", b"tests2"),
}


def partition() -> int:
    return keys.partition_of(PROJECT, 4)


async def kept(ports: Ports, task_id: str) -> bytes:
    """Return the request of a task as it is kept."""
    entry = ports.raw().databases[keys.CONFIGURATION][f"{{{partition()}}}:config:{PROJECT}/{task_id}"]
    assert entry.fields is not None
    return entry.fields["request"]


async def tamper(ports: Ports, task_id: str, **fields: bytes) -> None:
    """Change what is kept of a task behind the server's back."""
    arguments = [part for pair in fields.items() for part in pair]
    key = f"{{{partition()}}}:config:{PROJECT}/{task_id}"
    await ports.run_in(keys.CONFIGURATION, "redis.call('HSET', KEYS[1], unpack(ARGV))", [key], *arguments)


async def tamper_signing(ports: Ports, signing: str) -> None:
    await ports.client.hset(keys.project(partition(), PROJECT), "signing", signing)


async def test_nothing_secret_can_be_seen_in_the_store(ports: Ports) -> None:
    await ports.subscribe(TaskSpec("a", TARGET))
    await ports.try_subscribe(NewTask(TaskSpec("b", TARGET), "request-1", f"digest-of-{SECRET}"))
    await ports.projects.rotate_signing_secret(PROJECT, f"whsec_{SECRET}", HOUR_MS)
    claim = await ports.claim()
    assert claim[0].target == TARGET
    assert claim[0].signing_secrets == (f"whsec_{SECRET}", "whsec_first")

    raw = ports.raw()

    assert raw.names_with("target.example") == set()
    assert raw.names_with(SECRET) == set()
    assert raw.names_with("whsec_") == set()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
async def test_a_request_that_does_not_open_ends_its_task_and_no_other(ports: Ports, damage: object) -> None:
    await ports.subscribe(spec("damaged"), spec("whole"))
    await tamper(ports, "damaged", request=damage(await kept(ports, "damaged")))  # type: ignore[operator]

    batch = await ports.look()

    assert [claim.task_id for claim in batch.claims] == ["whole"]
    assert batch.unreadable == [(PROJECT, "damaged")]
    told = await ports.tasks.timeline(PROJECT, "damaged", 0, 10)
    assert [(event.type, event.reason) for event in told.events] == [
        (EventType.SUBSCRIBED, None),
        (EventType.DISPATCHED, None),
        (EventType.ERRORED, Reason.UNREADABLE),
        (EventType.FAILED, Reason.UNREADABLE),
    ]
    assert told.events[2].detail.startswith("its request cannot be read: it ")
    assert told.task.state is TaskState.FAILED
    assert await ports.task_in_queue() == 1
    assert await ports.claim() == []


async def test_a_request_that_was_moved_to_another_task_does_not_open(ports: Ports) -> None:
    await ports.subscribe(TaskSpec("theirs", TARGET), spec("mine"))
    await tamper(ports, "mine", request=await kept(ports, "theirs"))

    batch = await ports.look()

    assert [claim.task_id for claim in batch.claims] == ["theirs"]
    assert batch.unreadable == [(PROJECT, "mine")]


async def test_a_policy_that_cannot_be_read_ends_its_task_and_no_other(ports: Ports) -> None:
    await ports.subscribe(spec("damaged"), spec("whole"))
    whole = ports.raw().databases[keys.CONFIGURATION][f"{{{partition()}}}:config:{PROJECT}/damaged"].fields
    assert whole is not None
    await tamper(ports, "damaged", policy=b"\x91\x01")

    batch = await ports.look()

    assert [claim.task_id for claim in batch.claims] == ["whole"]
    assert batch.unreadable == [(PROJECT, "damaged")]
    await tamper(ports, "damaged", policy=whole["policy"])
    assert (await ports.tasks.get(PROJECT, "damaged")).state is TaskState.FAILED


@pytest.mark.parametrize("fields", [("request",), ("policy",), ("request", "policy")])
async def test_what_is_missing_ends_its_task_and_no_other(ports: Ports, fields: tuple[str, ...]) -> None:
    await ports.subscribe(spec("damaged", labels={"a": "b"}), spec("whole"))
    whole = ports.raw().databases[keys.CONFIGURATION][f"{{{partition()}}}:config:{PROJECT}/damaged"].fields
    assert whole is not None
    key = f"{{{partition()}}}:config:{PROJECT}/damaged"
    await ports.run_in(keys.CONFIGURATION, "redis.call('HDEL', KEYS[1], unpack(ARGV))", [key], *fields)

    batch = await ports.look()

    assert [claim.task_id for claim in batch.claims] == ["whole"]
    assert batch.unreadable == [(PROJECT, "damaged")]
    await tamper(ports, "damaged", **whole)
    told = await ports.tasks.timeline(PROJECT, "damaged", 0, 10)
    assert [event.reason for event in told.events] == [None, None, Reason.UNREADABLE, Reason.UNREADABLE]
    assert told.task.state is TaskState.FAILED
    assert await ports.task_in_queue() == 1


async def test_a_task_is_shown_without_a_request_that_does_not_open(ports: Ports) -> None:
    await ports.subscribe(spec("whole"), spec("damaged"))
    await tamper(ports, "damaged", request=b"\x00")

    page = await ports.tasks.list_tasks(PROJECT, TaskFilter(), 10, None)

    assert [(task.spec.task_id, task.spec.target == UNREADABLE_TARGET) for task in page.tasks] == [
        ("damaged", True),
        ("whole", False),
    ]
    assert (await ports.tasks.cancel(PROJECT, "damaged")).task.state is TaskState.CANCELED


async def test_a_request_under_a_key_that_others_have_is_left_to_them(ports: Ports) -> None:
    """A new key came into use a moment ago: this process will learn that it must not serve."""
    await ports.subscribe(spec("a"))
    theirs = Vault(OTHER).seal_request(PROJECT, "a", TARGET)
    await tamper(ports, "a", request=theirs)
    await KeyRegistry(ports.client).note_newest(OTHER)

    batch = await ports.look(lease_ms=500)

    assert (batch.claims, batch.unreadable) == ([], [])
    assert (await ports.tasks.get(PROJECT, "a")).state is TaskState.DISPATCHING
    with pytest.raises(UnfitStore, match="'other1'"):
        await initialise(ports.client, 4, KEYRING)
    # So that what is left is consistent to those who look at it.
    await tamper(ports, "a", request=VAULT.seal_request(PROJECT, "a", TARGET))
    await KeyRegistry(ports.client).retire(["other1"])


async def test_without_its_signing_secret_nothing_is_sent(ports: Ports) -> None:
    await ports.subscribe(spec("a"))
    await tamper_signing(ports, codec.pack_signing([("damaged", None)]))

    assert (await ports.look()).unreadable == [(PROJECT, "a")]

    told = await ports.tasks.timeline(PROJECT, "a", 0, 10)
    assert told.events[2].detail.startswith("its signing secret cannot be read")


async def test_a_rotation_mends_a_signing_secret(ports: Ports) -> None:
    await ports.subscribe(spec("a"))
    await tamper_signing(ports, codec.pack_signing([("damaged", None)]))

    await ports.projects.rotate_signing_secret(PROJECT, "whsec_new", HOUR_MS)

    assert (await ports.take("a")).signing_secrets == ("whsec_new",)


async def test_a_task_goes_on_where_its_record_was_read_before(ports: Ports) -> None:
    """What an attempt in flight needs, it has."""
    await ports.subscribe(spec("a"))
    claim = await ports.take("a")
    await tamper(ports, "a", request=b"\x00")

    assert await ports.execution.report([Report(claim.lease, SUCCESS, Decision(Trigger.COMPLETE))]) == [True]


async def test_a_repeated_request_id_is_known_after_a_change_of_keys(ports: Ports) -> None:
    new = NewTask(TaskSpec("", TARGET), "request-1", "digest")
    first = await ports.try_subscribe(NewTask(TaskSpec("a", TARGET), "request-1", "digest"))
    newer = Vault(KEYRING.behind(OTHER.newest))
    tasks = type(ports.tasks)(ports.runner, ports.settings, newer)

    assert await tasks.subscribe(PROJECT, [new], 10) == first


class TestKeysInUse:
    """A lost or wrong key is met at the start."""

    async def test_a_key_is_noted_when_it_comes_into_use(self, ports: Ports) -> None:
        registry = KeyRegistry(ports.client)
        assert await registry.in_use() == {"tests1": KEYRING.newest.check_value}

        await initialise(ports.client, 4, OTHER.with_older(KEYRING))

        assert (await registry.in_use()).keys() == {"tests1", "other1"}

    async def test_a_lost_key_is_named(self, ports: Ports) -> None:
        with pytest.raises(UnfitStore, match=r"under the key 'tests1', and this server has only other1"):
            await initialise(ports.client, 4, OTHER)
        assert (await KeyRegistry(ports.client).in_use()).keys() == {"tests1"}

    async def test_another_key_of_the_same_id_is_refused(self, ports: Ports) -> None:
        wrong = Keyring((EncryptionKey("tests1", b"w" * 32),))
        with pytest.raises(UnfitStore, match=r"another key of the id 'tests1'"):
            await initialise(ports.client, 4, wrong)

    @pytest.mark.one_server
    async def test_a_full_store_takes_the_note(self, ports: Ports) -> None:
        await ports.client.config_set("maxmemory", 1)
        try:
            await initialise(ports.client, 4, OTHER.with_older(KEYRING))
        finally:
            await ports.client.config_set("maxmemory", 0)
        assert "other1" in await KeyRegistry(ports.client).in_use()
