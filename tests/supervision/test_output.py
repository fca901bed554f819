"""What a worker's libraries print: none of it is taken for an answer, and none of it ends the server."""

from pathlib import Path

import pytest

from kuueri_grpc.process.handover import LINE_LIMIT
from tests.acceptance.targets import Target
from tests.supervision.processes import serving
from tests.supervision.test_deaths import serves

pytestmark = pytest.mark.timeout(240)

#: Read by Python when it starts.
TALKATIVE = f"""
import os, sys
if "kuueri_grpc.worker" in sys.orig_argv:
    print("good morning")
    print('{{"fault": 7}}')
    print("x" * {LINE_LIMIT + 1_000})
    leave = os._exit
    # In one piece: the other worker says so at the same time.
    os._exit = lambda status: (sys.stdout.write("good night\\n"), sys.stdout.flush(), leave(status))
"""


async def test_what_a_worker_prints_is_passed_over(tmp_path: Path, target: Target) -> None:
    (tmp_path / "sitecustomize.py").write_text(TALKATIVE)
    async with serving(tmp_path, "--workers", "2", env={"PYTHONPATH": str(tmp_path)}) as served:
        await served.ready()
        await serves(served, target)
        await served.stop()
        printed = [line for line in served.log if "are no answer; they are passed over" in line]
        assert len(printed) >= 2 * 3  # the long one comes in pieces
        assert served.log.count("good night") == 2
        assert "good" not in "".join(printed + served.printed)
