"""Instants of servers whose clocks differ."""

from kuueri_grpc.store.clock import PartitionClocks, StoreClock

#: What the arithmetic on a running clock may be off by: it is rounded, and goes on in between.
CLOSE_MS = 50
NOON_MS = 1_700_000_000_000
MINUTE_MS = 60_000


def near(found: int | None, wanted: int) -> bool:
    return found is not None and abs(found - wanted) <= CLOSE_MS


def test_one_server_has_one_clock() -> None:
    engine = StoreClock()
    clocks = PartitionClocks(engine, 3, one_server=True)

    clocks.observe(2, NOON_MS)

    assert near(engine.now_ms(), NOON_MS)
    assert near(clocks.after(1, 500), NOON_MS + 500)
    assert clocks.on_engine(1, NOON_MS + 7) == NOON_MS + 7


def test_the_engine_goes_by_the_clock_of_the_first_partition() -> None:
    engine = StoreClock()
    clocks = PartitionClocks(engine, 2, one_server=False)

    clocks.observe(0, NOON_MS)
    clocks.observe(1, NOON_MS + 5 * MINUTE_MS)

    assert near(engine.now_ms(), NOON_MS)
    assert near(clocks.after(1, 500), NOON_MS + 5 * MINUTE_MS + 500)


def test_instants_are_translated() -> None:
    engine = StoreClock()
    clocks = PartitionClocks(engine, 2, one_server=False)
    clocks.observe(0, NOON_MS)
    clocks.observe(1, NOON_MS - 5 * MINUTE_MS)

    in_a_second = NOON_MS - 5 * MINUTE_MS + 1_000

    assert near(clocks.on_engine(1, in_a_second), NOON_MS + 1_000)
    assert clocks.on_engine(0, in_a_second) == in_a_second


def test_before_any_reading_nothing_is_known() -> None:
    clocks = PartitionClocks(StoreClock(), 2, one_server=False)

    assert clocks.after(0, 500) is None
    assert clocks.after(1, 500) is None
    clocks.observe(1, NOON_MS)
    assert clocks.after(0, 500) is None
    assert clocks.on_engine(1, NOON_MS) == NOON_MS
