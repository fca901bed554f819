"""Calls that a client library makes twice, because the answer to the first was lost."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from kuueri_grpc.domain.errors import KuueriError
from kuueri_grpc.ports import ClaimBatch
from kuueri_grpc.store.execution import RedisExecutionStore
from kuueri_grpc.store.key_registry import KeyRegistry
from kuueri_grpc.store.projects import RedisProjectStore
from kuueri_grpc.store.scripts import Argument, ScriptRunner
from kuueri_grpc.store.tasks import RedisTaskStore
from tests.keys import VAULT
from tests.store.ports import HOUR_MS, QUEUE_LIMIT, Ports
from tests.store.raw import RawStore

_Answer = TypeVar("_Answer")
_Call = tuple[str, int, Sequence[Argument]]


class RepeatingRunner(ScriptRunner):
    """Remembers the script calls of a method, and can make the next method call send the very same again."""

    calls: list[_Call]
    again: list[_Call]

    def begin(self) -> None:
        self.calls, self.again = [], []

    def repeat(self) -> None:
        self.calls, self.again = [], self.calls

    async def run(self, name: str, partition: int, arguments: Sequence[Argument]) -> Any:
        return await super().run(*self._note(name, partition, arguments))

    async def run_many(self, name: str, calls: Iterable[tuple[int, Sequence[Argument]]]) -> list[Any]:
        noted = [self._note(name, partition, arguments) for partition, arguments in calls]
        # One by one, as `run` is what notes a call that is alone.
        return [await super(RepeatingRunner, self).run(*call) for call in noted]

    async def run_each(self, name: str, calls: Sequence[tuple[int, Sequence[Argument]]]) -> list[Any]:
        return await self.run_many(name, calls)

    def _note(self, name: str, partition: int, arguments: Sequence[Argument]) -> _Call:
        call = (name, partition, arguments)
        if self.again:
            call = self.again.pop(0)
            assert call[0] == name
        self.calls.append(call)
        return call


class Twice:
    """Ports whose calls are made twice, to compare."""

    def __init__(self, ports: Ports) -> None:
        # A claim is carried out for as long as its caller waits, and this caller has all the time.
        settings = replace(ports.settings, call_timeout_ms=HOUR_MS)
        self._runner = runner = RepeatingRunner(ports.client, settings)
        self.ports = replace(
            ports,
            runner=runner,
            tasks=RedisTaskStore(runner, settings, VAULT),
            execution=RedisExecutionStore(runner, settings, ports.clock, VAULT, KeyRegistry(ports.client)),
            projects=RedisProjectStore(ports.client, runner, settings.partitions, QUEUE_LIMIT, VAULT),
        )
        self._runner.begin()

    async def first(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer | KuueriError:
        """Make a call; return its answer, or the error that is its answer."""
        self._runner.begin()
        return await _answer(call)

    async def again(self, call: Callable[[], Awaitable[_Answer]]) -> _Answer | KuueriError:
        """Make the same call again, with the very arguments that its scripts got the first time."""
        self._runner.repeat()
        return await _answer(call)

    async def both(
        self, call: Callable[[], Awaitable[_Answer]]
    ) -> tuple[_Answer | KuueriError, _Answer | KuueriError, RawStore, RawStore]:
        """Return both answers, and all data after the first and after the second call."""
        first = await self.first(call)
        between = self.ports.raw()
        again = await self.again(call)
        return first, again, between, self.ports.raw()


async def _answer(call: Callable[[], Awaitable[_Answer]]) -> _Answer | KuueriError:
    try:
        return await call()
    except KuueriError as error:
        return error


def same(first: object, again: object) -> bool:
    """Return whether two answers are the same; errors are by type and text.

    What a claim did besides giving tasks is said once: it is not done a second time.
    """
    if isinstance(first, ClaimBatch):
        return again == replace(first, recovered=[], poisoned=[], expired=0)
    if isinstance(first, list) and isinstance(again, list):
        return len(first) == len(again) and all(map(same, first, again))
    if isinstance(first, KuueriError):
        return type(first) is type(again) and str(first) == str(again)
    return first == again
