"""What an instance says of itself, and what it makes of what others say."""

import asyncio
from unittest.mock import AsyncMock, create_autospec

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.engine import membership
from kuueri_grpc.engine.attempts import Attempts
from kuueri_grpc.engine.membership import Membership
from kuueri_grpc.engine.ownership import Ownership
from kuueri_grpc.engine.scheduler import Scheduler
from kuueri_grpc.ports import Instance, InstanceRegistry, Sighting

PARTITIONS = 64
HOUR_S = 3_600.0


def an_instance(instance_id: str, *roles: str) -> Instance:
    return Instance(instance_id, "1.0", "host", 7, roles or ("api", "scheduler"), 1, 0, 0)


class Fixture:
    def __init__(self, *roles: str) -> None:
        self.others: list[Sighting] = []
        self.announced: list[Instance] = []
        self.registry = create_autospec(InstanceRegistry, instance=True)
        self.registry.announce = AsyncMock(side_effect=self._announce)
        self.scheduler = create_autospec(Scheduler, instance=True)
        attempts = create_autospec(Attempts, instance=True, in_flight=5)
        me = an_instance("me", *roles)
        self.membership = Membership(self.registry, attempts, self.scheduler, me, PARTITIONS)

    async def _announce(self, instance: Instance) -> list[Sighting]:
        self.announced.append(instance)
        return [Sighting(instance, 0), *self.others]

    @property
    def shared(self) -> list[Ownership]:
        return [call.args[0] for call in self.scheduler.share.call_args_list]


async def test_alone_it_owns_everything() -> None:
    fixture = Fixture()
    await fixture.membership.run_once()
    (announced,) = fixture.announced
    assert (announced.in_flight, announced.partitions) == (5, PARTITIONS)
    assert fixture.shared == []


async def test_with_another_scheduler_it_shares_and_looks_again() -> None:
    fixture = Fixture()
    fixture.others = [Sighting(an_instance("other"), 1_000)]
    await fixture.membership.run_once()
    await fixture.membership.run_once()
    (ownership,) = fixture.shared
    assert 0 < ownership.owned < PARTITIONS
    assert fixture.announced[-1].partitions == ownership.owned
    fixture.scheduler.look_again.assert_awaited_once()


async def test_who_does_not_schedule_or_is_silent_gets_no_share() -> None:
    fixture = Fixture()
    fixture.others = [
        Sighting(an_instance("edge", "api"), 0),
        Sighting(an_instance("silent"), 7_000),
    ]
    await fixture.membership.run_once()
    assert fixture.shared == []


async def test_when_the_other_is_gone_it_owns_everything_again() -> None:
    fixture = Fixture()
    fixture.others = [Sighting(an_instance("other"), 0)]
    await fixture.membership.run_once()
    fixture.others = []
    await fixture.membership.run_once()
    assert fixture.shared[-1].owned == PARTITIONS


async def test_one_that_does_not_schedule_owns_nothing() -> None:
    fixture = Fixture("api")
    fixture.others = [Sighting(an_instance("other"), 0)]
    await fixture.membership.run_once()
    assert fixture.announced[0].partitions == 0
    assert fixture.shared == []


async def test_a_share_that_could_not_be_looked_at_is_looked_at_the_next_time() -> None:
    fixture = Fixture()
    fixture.others = [Sighting(an_instance("other"), 0)]
    fixture.scheduler.look_again.side_effect = [StoreUnavailable("gone"), None]
    with pytest.raises(StoreUnavailable):
        await fixture.membership.run_once()
    await fixture.membership.run_once()
    assert fixture.scheduler.look_again.await_count == 2


async def test_a_withdrawal_that_fails_is_no_obstacle() -> None:
    fixture = Fixture()
    fixture.registry.withdraw.side_effect = StoreUnavailable("gone")
    await fixture.membership.withdraw(HOUR_S)
    fixture.registry.withdraw.assert_awaited_once_with("me")


async def test_no_heartbeat_comes_after_the_withdrawal() -> None:
    fixture = Fixture()
    answering, answer = asyncio.Event(), asyncio.Event()

    async def announce(instance: Instance) -> list[Sighting]:
        answering.set()
        await answer.wait()
        return [Sighting(instance, 0)]

    fixture.registry.announce.side_effect = announce
    async with asyncio.TaskGroup() as group:
        group.create_task(fixture.membership.run_once())
        await answering.wait()
        withdrawal = group.create_task(fixture.membership.withdraw(HOUR_S))
        await asyncio.sleep(0)
        fixture.registry.withdraw.assert_not_awaited()
        answer.set()
        await withdrawal
        await fixture.membership.run_once()
    assert [call[0] for call in fixture.registry.method_calls] == ["announce", "withdraw"]


@pytest.mark.parametrize("unanswered", ["announce", "withdraw"])
async def test_a_store_that_does_not_answer_holds_up_no_withdrawal(unanswered: str) -> None:
    fixture = Fixture()
    asked = asyncio.Event()

    async def never(_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    setattr(fixture.registry, unanswered, AsyncMock(side_effect=never))
    heartbeat = asyncio.create_task(fixture.membership.run_once())
    if unanswered == "announce":
        await asked.wait()
    else:
        await heartbeat
    async with asyncio.timeout(5):
        await fixture.membership.withdraw(0.01)
    heartbeat.cancel()


async def test_it_stops_announcing_when_it_has_withdrawn() -> None:
    fixture = Fixture()
    await fixture.membership.withdraw(HOUR_S)
    await asyncio.wait_for(fixture.membership.run(), 5)
    assert fixture.announced == []


async def test_an_outage_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "_HEARTBEAT_S", 0)
    fixture = Fixture()
    fixture.registry.announce.side_effect = [
        StoreUnavailable("gone"),
        StoreUnavailable("gone"),
        StoreUnavailable("gone"),
        asyncio.CancelledError,
    ]
    with caplog.at_level("WARNING"), pytest.raises(asyncio.CancelledError):
        await fixture.membership.run()
    assert len(caplog.records) == 1
