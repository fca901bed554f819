"""Running the installed commands to their end."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.served import PATIENCE_S, command, environment


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The lines of its output, each a JSON object."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    def ok(self) -> "Finished":
        assert self.exit_code == 0, (self.stdout, self.stderr)
        return self


async def run(
    name: str, *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: bytes = b""
) -> Finished:
    """Run a command of the environment that the tests run in; its credentials are kept in `cwd`."""
    process = await asyncio.create_subprocess_exec(
        command(name),
        *arguments,
        cwd=cwd,
        env=environment(cwd, env),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            stdout, stderr = await process.communicate(stdin)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Finished(process.returncode, stdout.decode(), stderr.decode())
