"""The client in the README, as it is written there, follows a task to its end whatever ends its watches."""

import asyncio
import re
import sys
from pathlib import Path

from tests.acceptance.caller import connected, register
from tests.acceptance.served import LOOPBACK, PATIENCE_S, Server
from tests.acceptance.targets import listening, status

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
#: A watch lasts for less than a second then, and the task of the README is due in two.
SHORT_WATCHES = {"TASKS_MODULE__GRPC__MAX_CONNECTION_AGE_GRACE": "1"}


async def test_the_client_in_python_survives_watches_that_end_by_age(tmp_path: Path) -> None:
    section = README.partition("## From Python\n")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    with Server(tmp_path, *LOOPBACK, "--workers", "1", env=SHORT_WATCHES) as server:
        async with connected(server.address) as channel, listening() as target:
            target.script("/hook", status(500), status(200))
            project = await register(channel)
            for written, here in (
                ("127.0.0.1:8202", server.address),
                ("http://127.0.0.1:8203/hook", target.url("/hook")),
            ):
                assert written in code
                code = code.replace(written, here)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", code),
                env={"KUUERI_TOKEN": project.token},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(PATIENCE_S):
                out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    events = re.findall(r"^(\d+) (.+)$", out.decode(), re.MULTILINE)
    assert [int(sequence) for sequence, _ in events] == list(range(1, len(events) + 1))
    assert events[-1][1] == "Task completed"
