"""The `Clock` port: the store's time, without asking for it."""

import time

#: A reading that is off by more than this is not a slow answer: the store's clock was set.
_STEP_MS = 1_000
#: How much of a smaller difference is believed at once.
_DECAY = 0.02


class StoreClock:
    """The store's clock, carried forward by this host's monotonic clock.

    Claims and peeks bring the store's time along, read at some moment before the answer arrived. So a
    reading makes this clock late by the answer's way back, never early: the latest reading wins over
    slower ones, and those only let it drift back slowly.
    """

    def __init__(self) -> None:
        self._offset_ms: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether the store's time was ever read: only then does `now_ms` tell it."""
        return self._offset_ms is not None

    def now_ms(self) -> int:
        """See `ports.Clock`. Before the first reading it is this host's own clock."""
        if self._offset_ms is None:
            return time.time_ns() // 1_000_000
        return int(time.monotonic() * 1_000 + self._offset_ms)

    def observe(self, store_ms: int) -> None:
        """Take a reading of the store's time (ms, rounded down) whose answer has just arrived."""
        reading = store_ms - time.monotonic() * 1_000
        if self._offset_ms is None or abs(reading - self._offset_ms) > _STEP_MS or reading > self._offset_ms:
            self._offset_ms = reading
        else:
            self._offset_ms += (reading - self._offset_ms) * _DECAY


class PartitionClocks:
    """The clocks of the servers that keep the partitions, and how they differ from the engine's.

    On one server they are one and the same. The nodes of a cluster have one each, and a partition may
    come to another node, so there each partition has a clock; the engine's is that of partition 0.
    Instants that a partition gave are translated, so that clocks that differ cost nothing but that.
    """

    def __init__(self, engine: StoreClock, partitions: int, *, one_server: bool) -> None:
        self._engine = engine
        others = (engine if one_server else StoreClock() for _ in range(1, partitions))
        self._clocks = (engine, *others)

    def observe(self, partition: int, store_ms: int) -> None:
        """Take a reading of a partition's time, see `StoreClock.observe`."""
        self._clocks[partition].observe(store_ms)

    def after(self, partition: int, wait_ms: int) -> int | None:
        """Return the instant in `wait_ms` by the partition's clock; None if it was never read."""
        clock = self._clocks[partition]
        return clock.now_ms() + wait_ms if clock.is_set else None

    def on_engine(self, partition: int, instant_ms: int) -> int:
        """Return when an instant of a partition, whose time was read, is by the engine's clock."""
        clock = self._clocks[partition]
        if clock is self._engine or not self._engine.is_set:
            return instant_ms
        return instant_ms - clock.now_ms() + self._engine.now_ms()
