"""A batch takes several script calls: one that fails takes nothing from the others."""

from collections.abc import Sequence

import pytest

from kuueri_grpc.domain.errors import KuueriError, StoreUnavailable
from kuueri_grpc.domain.task import Schedule, Task
from kuueri_grpc.ports import NewTask
from kuueri_grpc.store import keys
from kuueri_grpc.store.scripts import Argument
from tests.store.ports import HOUR_MS, PROJECT, Ports, spec

COUNT, CALLS = 250, 3
#: Places of the second call's tasks.
SECOND = range(100, 200)


def batch(prefix: str = "t") -> list[NewTask]:
    later = Schedule(delay_ms=HOUR_MS)
    return [NewTask(spec(f"{prefix}{i}", schedule=later), "r", f"f{i}", place=i) for i in range(COUNT)]


class Failing:
    """Fails some of the script calls of a store, before or after the store has carried them out."""

    def __init__(self, ports: Ports, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> None:
        self._run = ports.runner.run
        self._after = after
        self._calls = 0
        self.which: set[int] = set()
        monkeypatch.setattr(ports.runner, "run", self.run)

    async def run(self, name: str, partition: int, arguments: Sequence[Argument]) -> object:
        call = self._calls
        self._calls += 1
        if call in self.which and not self._after:
            raise StoreUnavailable("the connection broke")
        answer = await self._run(name, partition, arguments)
        if call in self.which:
            raise StoreUnavailable("the connection broke")
        return answer


def are_whole(results: Sequence[Task | KuueriError], first: Sequence[Task | KuueriError]) -> None:
    assert all(isinstance(result, Task) for result in results)
    assert [one for one, other in zip(results, first, strict=True) if one != other] == [
        results[i] for i in range(COUNT) if isinstance(first[i], StoreUnavailable)
    ]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after it was carried out"])
async def test_a_call_that_fails_hides_none_that_was_accepted(
    ports: Ports, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    failing = Failing(ports, monkeypatch, after=after)
    failing.which = {1}

    results = await ports.try_subscribe(*batch())

    assert [i for i, result in enumerate(results) if isinstance(result, StoreUnavailable)] == [*SECOND]
    for i in set(range(COUNT)) - set(SECOND):
        assert results[i] == await ports.tasks.get(PROJECT, f"t{i}")
    assert await ports.task_in_queue() == (COUNT if after else COUNT - len(SECOND))
    failing.which = set()
    are_whole(await ports.try_subscribe(*batch("generated-anew-")), results)
    assert await ports.task_in_queue() == COUNT


async def test_where_all_calls_fail_nothing_is_known(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    Failing(ports, monkeypatch, after=False).which = set(range(CALLS))
    with pytest.raises(StoreUnavailable):
        await ports.try_subscribe(*batch())
    assert await ports.task_in_queue() == 0


async def test_a_fault_of_ours_is_not_taken_for_an_outage(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(name: str, partition: int, arguments: Sequence[Argument]) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(ports.runner, "run", broken)
    with pytest.raises(ZeroDivisionError):
        await ports.try_subscribe(*batch())


async def test_a_record_that_breaks_the_script_costs_the_others_nothing(ports: Ports) -> None:
    partition = keys.partition_of(PROJECT, ports.settings.partitions)
    key = f"{{{partition}}}:task:{PROJECT}/t150"
    await ports.run_in(keys.EXECUTION, "redis.call('SET', KEYS[1], 'x')", [key])

    results = await ports.try_subscribe(*batch())

    assert [i for i, result in enumerate(results) if isinstance(result, StoreUnavailable)] == [150]
    assert await ports.task_in_queue() == COUNT - 1
    await ports.run_in(keys.EXECUTION, "redis.call('DEL', KEYS[1])", [key])
    are_whole(await ports.try_subscribe(*batch()), results)
