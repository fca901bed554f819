"""Who announces itself is seen by all, until it stops or falls silent."""

import pytest

from kuueri_grpc.ports import Instance
from kuueri_grpc.store import instances, keys
from kuueri_grpc.store.instances import RedisInstanceRegistry
from tests.store.ports import Ports


def an_instance(instance_id: str, start_time_ms: int = 1) -> Instance:
    return Instance(
        instance_id,
        version="1.2.3",
        host="one.example",
        pid=7,
        roles=("api", "scheduler"),
        start_time_ms=start_time_ms,
        in_flight=3,
        partitions=128,
    )


@pytest.fixture
def registry(ports: Ports) -> RedisInstanceRegistry:
    return RedisInstanceRegistry(ports.client, ports.runner.observer)


async def test_instances_see_each_other_the_oldest_first(registry: RedisInstanceRegistry) -> None:
    younger, older = an_instance("a", start_time_ms=2), an_instance("b", start_time_ms=1)
    assert [sighting.instance for sighting in await registry.announce(younger)] == [younger]
    seen = await registry.announce(older)
    assert [sighting.instance for sighting in seen] == [older, younger]
    assert seen[0].age_ms <= seen[1].age_ms
    assert await registry.sightings() != []


async def test_what_it_says_last_is_what_is_known(registry: RedisInstanceRegistry) -> None:
    await registry.announce(an_instance("a", start_time_ms=1))
    await registry.announce(an_instance("a", start_time_ms=9))
    assert [sighting.instance.start_time_ms for sighting in await registry.sightings()] == [9]


async def test_who_stops_is_forgotten(registry: RedisInstanceRegistry) -> None:
    await registry.announce(an_instance("a"))
    await registry.announce(an_instance("b"))
    await registry.withdraw("a")
    assert [sighting.instance.instance_id for sighting in await registry.sightings()] == ["b"]
    await registry.withdraw("b")
    assert await registry.sightings() == []


async def test_who_was_silent_for_long_is_forgotten_by_the_next_heartbeat(
    ports: Ports, registry: RedisInstanceRegistry
) -> None:
    await registry.announce(an_instance("silent"))
    await registry.announce(an_instance("late"))
    now_ms = await ports.now_ms()
    silence_ms = instances._FORGOTTEN_AFTER_MS
    await ports.client.zadd(keys.INSTANCES, {"silent": now_ms - silence_ms, "late": now_ms - silence_ms // 2})

    seen = await registry.announce(an_instance("me"))

    assert {sighting.instance.instance_id for sighting in seen} == {"late", "me"}
    assert next(s.age_ms for s in seen if s.instance.instance_id == "late") >= silence_ms // 2
    assert await ports.client.hkeys(keys.INSTANCE_DETAILS) == [b"late", b"me"]


async def test_nothing_is_left_when_all_were_killed(ports: Ports, registry: RedisInstanceRegistry) -> None:
    await registry.announce(an_instance("a"))
    for key in (keys.INSTANCES, keys.INSTANCE_DETAILS):
        assert 0 < await ports.client.pttl(key) <= instances._KEYS_TTL_MS


async def test_a_field_of_a_later_version_is_ignored(ports: Ports, registry: RedisInstanceRegistry) -> None:
    await registry.announce(an_instance("a"))
    text = await ports.client.hget(keys.INSTANCE_DETAILS, "a")
    assert isinstance(text, bytes)
    await ports.client.hset(keys.INSTANCE_DETAILS, "a", text.replace(b"{", b'{"later": 1, ', 1).decode())
    assert [sighting.instance for sighting in await registry.sightings()] == [an_instance("a")]


async def test_a_full_store_and_one_without_scripts_still_hear_heartbeats(
    ports: Ports, registry: RedisInstanceRegistry
) -> None:
    await ports.client.config_set("maxmemory", "1")
    try:
        await ports.everywhere("SCRIPT FLUSH")
        await registry.announce(an_instance("a"))
        await registry.announce(an_instance("b"))
        assert len(await registry.sightings()) == 2
    finally:
        await ports.client.config_set("maxmemory", "0")
