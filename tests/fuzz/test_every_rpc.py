"""Whatever a caller sends, the call ends with a status that says what was wrong, and the server is as before.

FUZZ_SECONDS (15) is for how long calls are made; `make fuzz FUZZ_SECONDS=180` is the long form, which alone
has enough calls to tell a small leak. A failure is shown with the smallest calls that still show it.
"""

import asyncio
import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.harness.procfs import rss_bytes
from tests.acceptance.served import LOOPBACK, Server
from tests.acceptance.targets import Answer, Target, listening, status
from tests.fuzz.calls import METHODS, Call, calls
from tests.fuzz.client import Fuzzer

SECONDS = float(os.environ.get("FUZZ_SECONDS", "15"))
_BATCHES_AT_A_TIME = 50
#: Of every method some calls pass its validation in such a time.
_ENOUGH_S = 120
#: What the memory of a server may grow by from one third of the time to the next, while it gets thousands of
#: calls. Caches that fill up and the allocator's holes were seen to be 2 to 3 MB in two minutes.
_GROWTH_BYTES = 8 * 1_048_576


#: Everything comes from one address here, and is to get behind the throttle.
UNTHROTTLED = {f"TASKS_MODULE__THROTTLER__{key}": "0" for key in ("AUTH_FAILURES", "REGISTRATIONS")}


ADMIN_TOKEN = "an-admin-token-of-this-server-alone"


class Everything(Target):
    """A target that takes whatever comes to it."""

    def _next_answer(self, path: str) -> Answer:
        return status(200)


def least_by_thirds(memory: list[tuple[float, int]]) -> list[int]:
    """Return the least memory in each third of the looks: long messages come and go, and what leaks stays.

    The first third is for what is made once: caches, pools, the buffers of the first long messages.
    """
    looks = len(memory) // 3
    return [min(used for _, used in memory[third * looks : (third + 1) * looks]) for third in range(3)]


@pytest.mark.timeout(SECONDS + 240)
def test_every_call_ends_with_a_status_and_the_server_stays_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        Server(
            tmp_path, *LOOPBACK, "--workers", "1", env={**UNTHROTTLED, "TASKS_ADMIN_TOKEN": ADMIN_TOKEN}
        ) as server,
        asyncio.Runner() as runner,
    ):
        target = Everything()
        listen = listening(target=target)
        runner.run(listen.__aenter__())
        memory: list[tuple[float, int]] = []
        fuzzer = Fuzzer(server.address, target.url(""), ADMIN_TOKEN)

        def fuzz(until: float) -> None:
            while time.monotonic() < until:

                @seed(random.SystemRandom().randrange(2**64))
                @settings(
                    max_examples=_BATCHES_AT_A_TIME,
                    deadline=None,
                    database=None,
                    phases=(Phase.generate, Phase.shrink),
                    suppress_health_check=list(HealthCheck),
                )
                @given(st.lists(calls(), min_size=4, max_size=12))
                def some(batch: list[Call]) -> None:
                    runner.run(fuzzer.make(batch))
                    assert server.running, server.log
                    memory.append((time.monotonic() - started, rss_bytes([server.pid])))

                some()

        started = time.monotonic()
        fuzz(started + SECONDS)
        runner.run(listen.__aexit__(None, None, None))

    thirds = least_by_thirds(memory)
    with capsys.disabled():
        print(f"\nfuzz: {fuzzer.codes.total():,} calls in {SECONDS:g} s: {dict(fuzzer.codes.most_common())}")  # noqa: T201
        print("fuzz: memory of the server, by thirds:", *(f"{third / 1e6:.1f} MB" for third in thirds))  # noqa: T201
    assert thirds[2] - thirds[1] < _GROWTH_BYTES, memory
    assert set(fuzzer.by_method) == set(METHODS)
    assert "Traceback" not in server.log
    never = [path for path, codes in fuzzer.by_method.items() if not codes["OK"]]
    if SECONDS >= _ENOUGH_S:
        assert not never, f"nothing that was sent to {never} was ever taken: what is behind it was not tried"
