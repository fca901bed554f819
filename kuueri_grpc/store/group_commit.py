"""Group commit: what callers bring at one moment goes to the store together.

Nobody waits for company. The first call goes out as soon as those that are ready beside it have joined, and
what comes while it is under way is gathered for the next one. So a quiet server sends each call alone and at
once, and the busier it is, the more share one round trip and one run of a script.
See docs/adr/0017-group-commit.md.
"""

import asyncio
import copy
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Result = TypeVar("Result")

#: What is gathered waits no longer than this for the call before it: a slow store is asked again meanwhile.
_PATIENCE_S = 0.005


class _Group(Generic[Item, Result]):
    """Items of one key with those who wait for them."""

    __slots__ = ("entries", "timer", "weight")

    def __init__(self) -> None:
        self.entries: list[tuple[Item, asyncio.Future[Result]]] = []
        self.weight = 0
        self.timer: asyncio.TimerHandle | None = None


class GroupCommit(Generic[Key, Item, Result]):
    """Gathers items by key.

    Args:
        commit: writes the items of one key, and returns a result for each, in order. What it raises is
            raised to all of them.
        most: items in one commit.
        heaviest: their weight, at which no more are added.
    """

    def __init__(
        self, commit: Callable[[Key, Sequence[Item]], Awaitable[Sequence[Result]]], most: int, heaviest: int
    ) -> None:
        self._commit = commit
        self._most = most
        self._heaviest = heaviest
        self._gathering: dict[Key, _Group[Item, Result]] = {}
        self._under_way: Counter[Key] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, key: Key, item: Item, weight: int) -> Result:
        """Commit an item with what else comes at the moment; return its result.

        Whoever is cancelled takes nothing from the others. An item that was sent by then is committed.
        """
        loop = asyncio.get_running_loop()
        group = self._gathering.get(key)
        if group is None:
            group = self._gathering[key] = _Group()
            if self._under_way[key]:
                group.timer = loop.call_later(_PATIENCE_S, self._start, key)
            else:
                self._start(key)
        result: asyncio.Future[Result] = loop.create_future()
        group.entries.append((item, result))
        group.weight += weight
        if len(group.entries) >= self._most or group.weight >= self._heaviest:
            self._start(key, self._take(key))
        return await result

    def _start(self, key: Key, group: _Group[Item, Result] | None = None) -> None:
        self._under_way[key] += 1
        task = asyncio.get_running_loop().create_task(self._work(key, group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self, key: Key) -> _Group[Item, Result] | None:
        group = self._gathering.pop(key, None)
        if group is not None and group.timer is not None:
            group.timer.cancel()
        return group

    async def _work(self, key: Key, group: _Group[Item, Result] | None) -> None:
        """Commit a group, or what was gathered by now, and what is gathered meanwhile."""
        try:
            while group := group or self._take(key):
                await self._write(key, group)
                group = None
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]

    async def _write(self, key: Key, group: _Group[Item, Result]) -> None:
        entries = [(item, result) for item, result in group.entries if not result.done()]
        try:
            results = await self._commit(key, [item for item, _ in entries]) if entries else ()
        except Exception as error:  # noqa: BLE001  it is raised to those who wait
            for _, future in entries:
                if not future.done():
                    # To each its own: what raises an exception writes into it.
                    future.set_exception(_copied(error))
        except BaseException:
            for _, future in entries:
                future.cancel()
            raise
        else:
            for (_, future), result in zip(entries, results, strict=True):
                if not future.done():
                    future.set_result(result)


def _copied(error: Exception) -> Exception:
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    return twin
