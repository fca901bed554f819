"""The garbage collector, set for a process that serves."""

import gc

#: Objects that are made and not freed before the youngest are looked at. A thousand attempts in flight
#: are some tens of thousands of objects, none of them garbage: Python's 700 has them looked at over and over.
_THRESHOLD = 10_000


def settle_collector() -> None:
    """Keep the collector from looking at what stays: call it when all is set up, before the first request.

    What a burst of tasks costs goes down by a tenth to a quarter (`python -m benchmarks burst`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_THRESHOLD, *gc.get_threshold()[1:])
