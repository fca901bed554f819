"""`make serve`: stays up, and what it prints can be pasted into a shell."""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.caller import Project, connected, post, register
from tests.acceptance.served import READY, CommandProcess, environment
from tests.acceptance.targets import Target, held

ROOT = Path(__file__).parents[2]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[CommandProcess]:
    """`make serve` in the repository, with data of its own and one slot for attempts."""
    make = shutil.which("make")
    assert make is not None, "make is needed to run the tests"
    options = f"--port 0 --data-dir {tmp_path / 'data'} --allow-target 127.0.0.0/8"
    env = environment(tmp_path, {"TASKS_SERVICE__MAX_IN_FLIGHT": "1", "TASKS_WORKERS": "1"})
    process = CommandProcess([make, "serve", f"ARGS={options}"], ROOT, env, tmp_path / "serve.log")
    yield process
    if process.running:
        process.send_to_group(signal.SIGINT)
    process.wait()
    process.assert_group_is_gone()


async def bash(script: str, cwd: Path, env: dict[str, str]) -> str:
    """Run lines as they were printed; the first that fails ends it."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "--noprofile", "--norc", "-euo", "pipefail", "-c", script),
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, (script, stdout.decode(), stderr.decode())
    return stdout.decode()


async def test_the_lines_that_make_serve_prints_work_as_pasted(
    made: CommandProcess, target: Target, tmp_path: Path
) -> None:
    # Up to the last of the first steps.
    printed = await asyncio.to_thread(made.lines_until, r"^  \S*kuueri list")
    ready = next(found for line in printed if (found := re.match(READY, line)))
    first_steps = [line.strip() for line in printed if line.startswith("  ")]
    assert len(first_steps) == 4

    async with connected(ready[1]) as channel:
        # It takes the only slot, so that nothing is sent to the example's address out there.
        project = await register(channel)
        blocking = await project.subscribe(post(target.script("/slot", held(asyncio.Event()))))
        await target.received("/slot")

        script = "\n".join([*first_steps, 'echo "token: $KUUERI_TOKEN"'])
        output = await bash(script, ROOT, environment(tmp_path))

        assert "kuueri.tasks.v1.TaskService" in output
        token = re.search(r"^token: (\S+)$", output, re.MULTILINE)
        assert token is not None
        (subscribed,) = re.findall(r"^\{\n.*?^\}$", output, re.MULTILINE | re.DOTALL)
        task_id = json.loads(subscribed)["task"]["task_id"]
        # `kuueri list` shows the task that grpcurl made.
        assert re.search(rf"^{task_id} +SCHEDULED ", output, re.MULTILINE)

        owner = Project(channel, "", token[1], "")
        task = await owner.cancel(task_id)
        assert task.http_target.url == "https://example.com/"
        assert task.attempt_count == 0
        await project.cancel(blocking.task_id)
    assert made.running

    # Ctrl-C in the terminal goes to all of the group.
    store_pid = int((tmp_path / "data" / "valkey.pid").read_text())
    made.send_to_group(signal.SIGINT)
    await asyncio.to_thread(made.wait)
    made.assert_group_is_gone()
    with pytest.raises(ProcessLookupError):
        os.kill(store_pid, 0)
