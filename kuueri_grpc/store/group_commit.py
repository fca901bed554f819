"""Group commit: what callers bring at one moment goes to the store together.

The first call goes out as soon as those that are ready beside it have joined, and what comes while it is
under way is gathered for the next one. The answer frees callers, who as a rule call again at once: what was
gathered waits for as many as were answered together, a moment at most. So a quiet server sends each call
alone and at once, and the busier it is, the more share one round trip and one run of a script.
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
#: And no longer than this, after an answer, for those who were answered to call again.
_RETURN_S = 0.002


class _Group(Generic[Item, Result]):
    """Items of one key with those who wait for them; with `most` of them it goes out."""

    __slots__ = ("entries", "most", "timer", "weight")

    def __init__(self, most: int) -> None:
        self.most = most
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
            group = self._gathering[key] = _Group(self._most)
            if self._under_way[key]:
                group.timer = loop.call_later(_PATIENCE_S, self._start, key)
            else:
                self._start(key)
        result: asyncio.Future[Result] = loop.create_future()
        group.entries.append((item, result))
        group.weight += weight
        if len(group.entries) >= group.most or group.weight >= self._heaviest:
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
        """Commit a group, or what was gathered by now; see to what is gathered meanwhile."""
        answered = 0
        try:
            if group := group or self._take(key):
                answered = await self._write(key, group)
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]
        if (gathered := self._gathering.get(key)) is not None:
            self._await_return(key, gathered, answered)

    def _await_return(self, key: Key, gathered: _Group[Item, Result], answered: int) -> None:
        """Send what is gathered when as many have joined as were answered, or after a moment."""
        # One alone shows no crowd: calls that come now and then would wait for nobody.
        expected = answered if answered > 1 else 0
        gathered.most = min(self._most, len(gathered.entries) + expected)
        if len(gathered.entries) >= gathered.most:
            self._start(key, self._take(key))
            return
        loop = asyncio.get_running_loop()
        due_s = loop.time() + _RETURN_S
        if gathered.timer is not None and due_s < gathered.timer.when():
            gathered.timer.cancel()
            gathered.timer = loop.call_at(due_s, self._start, key)

    async def _write(self, key: Key, group: _Group[Item, Result]) -> int:
        """Commit a group; return how many were answered."""
        entries = [(item, result) for item, result in group.entries if not result.done()]
        try:
            results = await self._commit(key, [item for item, _ in entries]) if entries else ()
        except Exception as error:  # noqa: BLE001  it is raised to those who wait
            for _, future in entries:
                if not future.done():
                    # To each its own: what raises an exception writes into it.
                    future.set_exception(_copied(error))
            return 0
        except BaseException:
            for _, future in entries:
                future.cancel()
            raise
        else:
            waiting = [
                (future, result)
                for (_, future), result in zip(entries, results, strict=True)
                if not future.done()
            ]
            for future, result in waiting:
                future.set_result(result)
            return len(waiting)


def _copied(error: Exception) -> Exception:
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    return twin
