"""The typed call to each Lua script, and the one place where they are loaded and run.

Their contracts (KEYS, ARGV, result, what makes them idempotent) are in the header of each `.lua` file.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from redis.exceptions import NoScriptError

from kuueri_grpc.ports import NO_TELEMETRY, Telemetry
from kuueri_grpc.store import keys
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.errors import OUTAGES, outages_mapped, unavailable
from kuueri_grpc.store.observer import StoreObserver
from kuueri_grpc.store.settings import StoreSettings

Argument = str | int | bytes

#: An outage of one node of a cluster is over when no call has met it for so long.
_QUIET_S = 2.0

_PRELUDE = ("prelude", "lib_task")
#: What is put between the first line of a script and the rest, behind the part that says where the keys are:
#: the prelude, if it is not here. A script without it is on no partition, see `run_alone`.
_SHARED: Mapping[str, Sequence[str]] = {
    "announce": (),
    "note_key": (),
    "free_email": (),
    "permitted": (),
    "foreign": (),
    "subscribe": (*_PRELUDE, "lib_request"),
    "recall": (*_PRELUDE, "lib_request"),
    "claim": (*_PRELUDE, "lib_unreadable", "lib_room"),
    "report": (*_PRELUDE, "lib_unreadable"),
    "release": (*_PRELUDE, "lib_unreadable"),
    "cancel": (*_PRELUDE, "lib_cancel"),
    "project_end": (*_PRELUDE, "lib_unreadable", "lib_cancel", "lib_deletion"),
    "project_erase": (*_PRELUDE, "lib_deletion"),
    "credential_add": (*_PRELUDE, "lib_credentials"),
    "credential_remove": (*_PRELUDE, "lib_credentials"),
    "rotate_token": (*_PRELUDE, "lib_credentials"),
    "rotate_signing": (*_PRELUDE, "lib_credentials"),
    "project_limit": (*_PRELUDE, "lib_credentials"),
}


class Script:
    """One Lua file, with what it shares with others between its first line and the rest.

    The first line tells the server what the script may do: `no-writes`, or `allow-oom` where it must
    work when the store's memory is full (everything but accepting what is new).

    Args:
        name: of the file.
        one_database: all keys are in database 0, as on a cluster, see docs/adr/0025-one-database.md.
    """

    def __init__(self, name: str, *, one_database: bool) -> None:
        folder = resources.files("kuueri_grpc.store") / "lua"
        flags, _, body = (folder / f"{name}.lua").read_text().partition("\n")
        parts = list(_SHARED.get(name, _PRELUDE))
        if parts:
            parts.insert(0, "lib_one_database" if one_database else "lib_four_databases")
        shared = "".join((folder / f"{part}.lua").read_text() for part in parts)
        self.name = name
        self.source = f"{flags}\n{shared}{body}"
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


def script(name: str, *, one_database: bool = False) -> Script:
    """Return the script in `lua/<name>.lua`, see `Script`."""
    return _read(name, one_database)


# What `cache` knows an argument by is also whether it was named, and whether it was left out.
@cache
def _read(name: str, one_database: bool) -> Script:
    return Script(name, one_database=one_database)


def forget_all() -> None:
    """Read scripts from their files again, for tests."""
    _read.cache_clear()


def read_all() -> None:
    """Read every script from its file, so that no file has to be opened later. Raises `OSError`."""
    shared = {part for parts in (_PRELUDE, *_SHARED.values()) for part in parts}
    for file in (resources.files("kuueri_grpc.store") / "lua").iterdir():
        name, _, kind = file.name.rpartition(".")
        if kind == "lua" and name not in shared:
            for one_database in (False, True):
                _ = script(name, one_database=one_database)


async def run_alone(client: Commands, name: str, script_keys: Sequence[str], *arguments: Argument) -> Any:
    """Run a script that is on no partition. Raises `StoreUnavailable`."""
    wanted = script(name)
    with outages_mapped():
        try:
            return await client.evalsha(wanted.sha, len(script_keys), *script_keys, *arguments)
        except NoScriptError:
            return await client.eval(wanted.source, len(script_keys), *script_keys, *arguments)


class ScriptRunner:
    """Runs scripts on partitions; loads one when the server does not have it (first use, restart).

    `observer` is told of every call. What calls the store beside the runner is to tell it too.
    """

    def __init__(
        self, client: Commands, settings: StoreSettings, telemetry: Telemetry = NO_TELEMETRY
    ) -> None:
        self._client = client
        self.observer = StoreObserver(telemetry, 0.0 if client.one_server else _QUIET_S)
        self._keys = [keys.script_keys(p) for p in range(settings.partitions)]
        self._one_database = not client.one_server
        # What every script is told first, see `lua/prelude.lua`.
        self._common = (settings.history_ms, settings.timeline_cap, settings.feed_cap)
        self._loaded: set[str] = set()

    async def load(self, name: str) -> None:
        """Load a script, unless this has done so before. Raises `StoreUnavailable`.

        `run` loads it, too, when the server turns out not to have it, and then calls again: one that comes a
        moment later overtakes. Who sends several calls that are to keep their order asks for this first.
        """
        wanted = self._script(name)
        if wanted.sha not in self._loaded:
            with self.observer.call(name):
                await self._client.script_load(wanted.source)
            self._loaded.add(wanted.sha)

    async def run(self, name: str, partition: int, arguments: Sequence[Argument]) -> Any:
        """Run one script and return its answer. Raises `StoreUnavailable`."""
        wanted = self._script(name)
        partition_keys = self._keys[partition]
        with self.observer.call(name):
            try:
                return await self._evalsha(wanted.sha, partition_keys, arguments)
            except NoScriptError:
                await self._client.script_load(wanted.source)
                return await self._evalsha(wanted.sha, partition_keys, arguments)

    def _script(self, name: str) -> Script:
        return script(name, one_database=self._one_database)

    async def _evalsha(self, sha: str, partition_keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        return await self._client.evalsha(
            sha, len(partition_keys), *partition_keys, *self._common, *arguments
        )

    @property
    def one_server(self) -> bool:
        """See `Commands`."""
        return self._client.one_server

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
        with self.observer.call(name):
            answers = await self._run_all(name, pending)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers

    async def run_each(self, name: str, calls: Sequence[tuple[int, Sequence[Argument]]]) -> list[Any]:
        """Like `run_many`, but a call that fails takes no answer from the others.

        So it is on a cluster with a node that does not serve, and with a record that a script breaks on. The
        answer of a call that failed is a `StoreUnavailable`; where all of a single server's failed, it is
        raised.
        """
        if self.one_server and len(calls) <= 1:
            return await self.run_many(name, calls)
        started = time.perf_counter()
        try:
            answers = await self._run_all(name, calls)
        except OUTAGES as error:
            self.observer.failed(name, error)
            raise unavailable(error) from error
        failures = [answer for answer in answers if isinstance(answer, OUTAGES)]
        if not failures:
            self.observer.answered(name, time.perf_counter() - started)
            return answers
        self.observer.failed(name, failures[0])
        if self.one_server and len(failures) == len(answers):
            raise unavailable(failures[0]) from failures[0]
        return [unavailable(answer) if isinstance(answer, OUTAGES) else answer for answer in answers]

    async def _run_all(self, name: str, calls: Sequence[tuple[int, Sequence[Argument]]]) -> list[Any]:
        wanted = self._script(name)
        answers = await self._pipeline(wanted.sha, calls)
        missing = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missing:
            await self._client.script_load(wanted.source)
            again = await self._pipeline(wanted.sha, [calls[i] for i in missing])
            for i, answer in zip(missing, again, strict=True):
                answers[i] = answer
        return answers

    async def _pipeline(self, sha: str, calls: Sequence[tuple[int, Sequence[Argument]]]) -> list[Any]:
        pipe = self._client.pipeline(transaction=False)
        for partition, arguments in calls:
            partition_keys = self._keys[partition]
            # Queued, not awaited: a pipeline sends when it is executed.
            _ = pipe.evalsha(sha, len(partition_keys), *partition_keys, *self._common, *arguments)
        return list(await pipe.execute(raise_on_error=False))
