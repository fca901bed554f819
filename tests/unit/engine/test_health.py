"""What a process says of itself."""

import asyncio

from kuueri_grpc.engine.health import Health, Part


def changes_of(health: Health) -> list[bool]:
    changes: list[bool] = []
    health.on_change(lambda: changes.append(health.serving))
    return changes


def test_serves_while_nothing_is_wrong() -> None:
    health = Health()
    assert health.serving
    assert health.reasons() == []


def test_serves_again_when_the_last_fault_is_mended() -> None:
    health = Health()
    changes = changes_of(health)
    health.fail(Part.SIGNALS, "no connection")
    health.fail(Part.STORE, "it is loading")
    assert health.reasons() == ["signals: no connection", "store: it is loading"]
    health.mend(Part.SIGNALS)
    assert changes == [False]
    health.mend(Part.STORE)
    assert changes == [False, True]
    assert health.reasons() == []


def test_the_latest_fault_of_a_part_is_told() -> None:
    health = Health()
    changes = changes_of(health)
    health.fail(Part.STORE, "it cannot be reached")
    health.fail(Part.STORE, "it is loading")
    assert health.reasons() == ["store: it is loading"]
    assert changes == [False]


def test_mending_what_is_in_order_changes_nothing() -> None:
    health = Health()
    changes = changes_of(health)
    health.mend(Part.STORE)
    assert changes == []


async def test_a_part_in_doubt_serves_and_is_not_in_order_until_it_was_looked_at() -> None:
    health = Health()
    changes = changes_of(health)
    health.doubt(Part.STORE)
    assert health.doubts(Part.STORE).is_set()
    assert health.serving
    assert not health.is_in_order(Part.STORE)
    waiting = asyncio.create_task(health.in_order(Part.STORE))
    health.mend(Part.STORE)
    await waiting
    assert health.is_in_order(Part.STORE)
    assert changes == []


async def test_a_faulty_part_is_not_in_order() -> None:
    health = Health()
    health.fail(Part.STORE, "it is loading")
    assert not health.is_in_order(Part.STORE)
    assert health.is_in_order(Part.SIGNALS)
