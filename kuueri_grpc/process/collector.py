"""The garbage collector: at rest while a process imports, and set for one that serves."""

import contextlib
import gc
from collections.abc import Iterator

#: Objects that are made and not freed before the youngest are looked at. A thousand attempts in flight
#: are some tens of thousands of objects, none of them garbage: Python's 700 has them looked at over and over.
_THRESHOLD = 10_000


def rest_collector() -> None:
    """Switch the collector off: what imports make stays, and it would look at all of it again and again."""
    gc.disable()


def wake_collector() -> None:
    """Switch it on again, for what comes from now on; what is there already it leaves alone."""
    gc.freeze()
    gc.enable()


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Let the collector rest for the imports of a block, which then take a tenth less."""
    rest_collector()
    try:
        yield
    finally:
        wake_collector()


def settle_collector() -> None:
    """Keep the collector from looking at what stays: call it when all is set up, before the first request.

    What a burst of tasks costs goes down by a tenth to a quarter (`python -m benchmarks burst`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_THRESHOLD, *gc.get_threshold()[1:])
