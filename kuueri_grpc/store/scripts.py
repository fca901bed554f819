"""The typed call to each Lua script, and the one place where they are loaded and run.

Their contracts (KEYS, ARGV, result, what makes them idempotent) are in the header of each `.lua` file.
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from kuueri_grpc.store import keys
from kuueri_grpc.store.errors import outages_mapped

Argument = str | int | bytes


class Script:
    """One Lua file with the prelude between its first line and the rest.

    The first line tells the server what the script may do: `no-writes`, or `allow-oom` where it must
    work when the store's memory is full (everything but accepting what is new).
    """

    def __init__(self, name: str) -> None:
        folder = resources.files("kuueri_grpc.store") / "lua"
        flags, _, body = (folder / f"{name}.lua").read_text().partition("\n")
        prelude = (folder / "prelude.lua").read_text()
        self.name = name
        self.source = f"{flags}\n{prelude}{body}"
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


@cache
def script(name: str) -> Script:
    """Return the script in `lua/<name>.lua`."""
    return Script(name)


class ScriptRunner:
    """Runs scripts on partitions; loads one when the server does not have it (first use, restart)."""

    def __init__(self, client: Redis, partitions: int) -> None:
        self._client = client
        self._keys = [keys.script_keys(p) for p in range(partitions)]

    async def run(self, name: str, partition: int, arguments: Sequence[Argument]) -> Any:
        """Run one script and return its answer. Raises `StoreUnavailable`."""
        wanted = script(name)
        partition_keys = self._keys[partition]
        async with outages_mapped():
            try:
                return await self._evalsha(wanted.sha, partition_keys, arguments)
            except NoScriptError:
                await self._client.script_load(wanted.source)
                return await self._evalsha(wanted.sha, partition_keys, arguments)

    async def _evalsha(self, sha: str, partition_keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        return await self._client.evalsha(sha, len(partition_keys), *partition_keys, *arguments)

    async def run_many(self, name: str, calls: Iterable[tuple[int, Sequence[Argument]]]) -> list[Any]:
        """Run one script on several partitions in one round trip; answers in order.

        Raises `StoreUnavailable`; some of the calls may have taken effect then.
        """
        pending = list(calls)
        if len(pending) == 1:
            partition, arguments = pending[0]
            return [await self.run(name, partition, arguments)]
        if not pending:
            return []
        wanted = script(name)
        async with outages_mapped():
            answers = await self._pipeline(wanted.sha, pending)
            missing = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if missing:
                await self._client.script_load(wanted.source)
                again = await self._pipeline(wanted.sha, [pending[i] for i in missing])
                for i, answer in zip(missing, again, strict=True):
                    answers[i] = answer
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers

    async def _pipeline(self, sha: str, calls: Sequence[tuple[int, Sequence[Argument]]]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for partition, arguments in calls:
            partition_keys = self._keys[partition]
            # Queued, not awaited: a pipeline sends when it is executed.
            _ = pipe.evalsha(sha, len(partition_keys), *partition_keys, *arguments)
        return list(await pipe.execute(raise_on_error=False))
