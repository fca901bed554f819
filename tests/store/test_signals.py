"""The signal bus: what is heard, by whom, and that nobody is deafened by somebody else."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import pytest

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.domain.state import TaskState, Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.ports import Changed, Disconnected, Due, Lease, Reconnected, Revoke, Revoked, Signal
from kuueri_grpc.store import keys
from tests.store.drive import drive
from tests.store.hearing import Ear, hearing
from tests.store.ports import HOUR_MS, PROJECT, Ports, signal_bus, spec

pytestmark = pytest.mark.one_server(
    "what several nodes say comes in no order; see tests/cluster/test_signals.py"
)

LEASE = Lease(PROJECT, "a", "token")
A = Changed(PROJECT, "a")
ANY = Changed(PROJECT, None)


@pytest.fixture
async def ear(ports: Ports) -> AsyncIterator[Ear]:
    async with hearing(ports.url, ports.settings) as ear:
        yield ear


@pytest.fixture
async def task(ports: Ports, ear: Ear) -> str:
    """A waiting task, whose every pause and resume is an event."""
    await ports.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)))
    await ear.so_far()
    return "a"


async def change(ports: Ports, task_id: str = "a") -> None:
    await ports.tasks.pause(PROJECT, task_id)
    await ports.tasks.resume(PROJECT, task_id)


def changes(signals: Sequence[Signal]) -> list[Signal]:
    return [signal for signal in signals if isinstance(signal, Changed)]


async def cut(ports: Ports) -> None:
    """Cut every connection for signals that there is."""
    assert await ports.client.client_kill_filter(_type="pubsub") > 0


async def interruption(ear: Ear) -> None:
    """Wait until an interruption has begun and ended."""
    assert isinstance(await ear.next(), Disconnected)
    assert await ear.next() == Reconnected()


class TestMessages:
    async def test_instances_talk_to_each_other(self, ports: Ports, ear: Ear) -> None:
        async with hearing(ports.url, ports.settings, "there") as other:
            await other.bus.send_revoke("here", Revoke(LEASE, "there"))
            assert await ear.next() == Revoke(LEASE, "there")

            await ear.bus.send_revoked("there", Revoked(LEASE))
            assert await other.next() == Revoked(LEASE)

            assert await ear.so_far() == await other.so_far() == []

    @pytest.mark.parametrize("text", ["{}", "[]", "1", '{"of": "a newer version"}', '{"revoke": [1]}'])
    async def test_what_is_not_understood_is_passed_over(self, ports: Ports, ear: Ear, text: str) -> None:
        await ports.client.publish(keys.instance_channel("here"), text)

        assert await ear.so_far() == []

    async def test_a_revoke_that_is_not_json_is_passed_over(self, ports: Ports, ear: Ear) -> None:
        await ports.client.publish(keys.instance_channel("here"), "not json")

        assert await ear.so_far() == []

    async def test_any_text_survives(self, ear: Ear) -> None:
        lease = Lease(PROJECT, "a-b_C", json.dumps({"quoted": "ü"}))
        await ear.bus.send_revoke("here", Revoke(lease, "here"))

        assert await ear.next() == Revoke(lease, "here")


class TestFollowing:
    async def test_every_step_of_a_followed_task_is_told(self, ports: Ports, ear: Ear) -> None:
        driven = await drive(ports, TaskState.PAUSED)
        await ear.bus.follow(PROJECT, driven.task_id)
        told = Changed(PROJECT, driven.task_id)

        await ports.tasks.run(PROJECT, driven.task_id)
        assert changes(await ear.so_far()) == [told]
        claim = await ports.take(driven.task_id)
        assert changes(await ear.so_far()) == [told]
        await ports.report(claim.lease, Trigger.COMPLETE)
        assert changes(await ear.so_far()) == [told]
        await ports.tasks.purge(PROJECT, driven.task_id)
        assert changes(await ear.so_far()) == [told]

    async def test_only_followed_tasks_are(self, ports: Ports, ear: Ear, task: str) -> None:
        other = await ports.create_project("project1111111111")
        await ports.subscribe(spec("b", schedule=Schedule(delay_ms=HOUR_MS)))
        await ports.subscribe(spec("a", schedule=Schedule(delay_ms=HOUR_MS)), project_id=other)
        await ear.bus.follow(other, "a")

        await change(ports, task)
        await change(ports, "b")

        assert changes(await ear.so_far()) == []

    async def test_a_step_after_follow_returned_is_heard(self, ports: Ports, ear: Ear, task: str) -> None:
        """The subscription is in force then, however busy the connection for signals is."""
        for _ in range(50):
            await ear.bus.follow(PROJECT, task)
            await ports.tasks.pause(PROJECT, task)
            assert A in await ear.so_far()
            ear.bus.unfollow(PROJECT, task)
            await ports.tasks.resume(PROJECT, task)
            assert changes(await ear.so_far()) == []

    async def test_follow_without_a_connection_is_an_outage(self, ports: Ports, task: str) -> None:
        async with signal_bus(ports.url, ports.settings, "deaf") as bus:
            with pytest.raises(StoreUnavailable):
                await bus.follow(PROJECT, task)

    async def test_one_who_leaves_does_not_deafen_the_other(self, ports: Ports, ear: Ear, task: str) -> None:
        await ear.bus.follow(PROJECT, task)
        await ear.bus.follow(PROJECT, task)
        ear.bus.unfollow(PROJECT, task)

        await change(ports)
        assert A in await ear.so_far()

        ear.bus.unfollow(PROJECT, task)
        await change(ports)
        assert changes(await ear.so_far()) == []

    @pytest.mark.parametrize("steps", range(8))
    async def test_one_whose_call_is_cancelled_does_not_deafen_the_other(
        self, ports: Ports, ear: Ear, task: str, steps: int
    ) -> None:
        await ear.bus.follow(PROJECT, task)
        await self.follow_and_cancel(ear, steps)

        await change(ports)

        assert A in await ear.so_far()

    @pytest.mark.parametrize("steps", range(8))
    async def test_one_whose_call_is_cancelled_does_not_fail_the_other_s(
        self, ports: Ports, ear: Ear, task: str, steps: int
    ) -> None:
        """Both wait for the same confirmation; or the second asks again before the first one's came."""
        first = asyncio.create_task(ear.bus.follow(PROJECT, task))
        second = asyncio.create_task(ear.bus.follow(PROJECT, task))
        for _ in range(steps):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first, second])
        third = asyncio.create_task(ear.bus.follow(PROJECT, task))
        await asyncio.gather(second, third)
        ear.bus.unfollow(PROJECT, task)

        await change(ports)

        assert A in await ear.so_far()

    @pytest.mark.parametrize("steps", range(8))
    async def test_a_cancelled_call_leaves_nothing_behind(
        self, ports: Ports, ear: Ear, task: str, steps: int
    ) -> None:
        await self.follow_and_cancel(ear, steps)
        # What is confirmed late is taken back on the connection for signals: let that be over.
        await ear.bus.follow(PROJECT, "fence")
        await ear.so_far()

        channel = keys.watch_channel(keys.partition_of(PROJECT, 4), PROJECT, task)
        ((_, listeners),) = await ports.client.pubsub_numsub(channel)
        assert listeners == 0

    async def follow_and_cancel(self, ear: Ear, steps: int) -> None:
        following = asyncio.create_task(ear.bus.follow(PROJECT, "a"))
        for _ in range(steps):
            await asyncio.sleep(0)
        if following.cancel():
            await asyncio.wait([following])
        if not following.cancelled():
            ear.bus.unfollow(PROJECT, "a")

    @pytest.mark.parametrize("steps", range(6))
    async def test_leaving_and_coming_back(self, ports: Ports, ear: Ear, task: str, steps: int) -> None:
        await ear.bus.follow(PROJECT, task)
        ear.bus.unfollow(PROJECT, task)
        for _ in range(steps):
            await asyncio.sleep(0)
        await ear.bus.follow(PROJECT, task)

        await change(ports)

        assert A in await ear.so_far()

    async def test_many_come_and_go(self, ports: Ports, ear: Ear, task: str) -> None:
        """However they interleave: who stays hears, and when nobody is left nothing is heard."""

        async def visit(times: int) -> None:
            for _ in range(times):
                await ear.bus.follow(PROJECT, task)
                ear.bus.unfollow(PROJECT, task)

        await ear.bus.follow(PROJECT, task)
        await asyncio.gather(*(visit(10) for _ in range(10)))
        await change(ports)
        assert A in await ear.so_far()

        ear.bus.unfollow(PROJECT, task)
        await asyncio.gather(*(visit(10) for _ in range(10)))
        await change(ports)
        assert changes(await ear.so_far()) == []


class TestFollowingAProject:
    async def test_a_step_of_any_of_its_tasks_is_told(self, ports: Ports, ear: Ear, task: str) -> None:
        await ear.bus.follow(PROJECT, None)

        await ports.subscribe(spec("b", schedule=Schedule(delay_ms=HOUR_MS)))
        assert changes(await ear.so_far()) == [ANY]
        await ports.tasks.pause(PROJECT, task)
        assert changes(await ear.so_far()) == [ANY]
        await ports.tasks.cancel(PROJECT, "b")
        assert changes(await ear.so_far()) == [ANY]

    async def test_another_project_s_is_not(self, ports: Ports, ear: Ear, task: str) -> None:
        other = await ports.create_project("project1111111111")
        await ear.bus.follow(other, None)

        await change(ports, task)

        assert changes(await ear.so_far()) == []

    async def test_the_project_and_one_of_its_tasks_are_followed_apart(
        self, ports: Ports, ear: Ear, task: str
    ) -> None:
        await ports.subscribe(spec("b", schedule=Schedule(delay_ms=HOUR_MS)))
        await ear.bus.follow(PROJECT, None)
        await ear.bus.follow(PROJECT, task)

        await ports.tasks.pause(PROJECT, task)
        assert sorted(changes(await ear.so_far()), key=repr) == sorted([ANY, A], key=repr)
        await ports.tasks.pause(PROJECT, "b")
        assert changes(await ear.so_far()) == [ANY]

        ear.bus.unfollow(PROJECT, None)
        await ports.tasks.resume(PROJECT, task)
        assert changes(await ear.so_far()) == [A]

    async def test_it_is_heard_again_after_an_interruption(self, ports: Ports, ear: Ear, task: str) -> None:
        await ear.bus.follow(PROJECT, None)
        await cut(ports)
        await interruption(ear)

        await ports.tasks.pause(PROJECT, task)

        assert changes(await ear.so_far()) == [ANY]


class TestReconnection:
    async def test_it_is_told_and_everything_is_heard_again(self, ports: Ports, ear: Ear, task: str) -> None:
        await ear.bus.follow(PROJECT, task)
        await cut(ports)

        await interruption(ear)

        await ports.tasks.pause(PROJECT, task)
        assert await ear.so_far() == [A]
        resumed = await ports.tasks.resume(PROJECT, task)
        assert resumed.schedule_time_ms is not None
        due = Due(keys.partition_of(PROJECT, 4), resumed.schedule_time_ms)
        assert sorted(await ear.so_far(), key=repr) == sorted([A, due], key=repr)

    async def test_it_is_told_every_time(self, ports: Ports, ear: Ear) -> None:
        for _ in range(3):
            await cut(ports)
            await interruption(ear)
        assert await ear.so_far() == []

    async def test_what_was_unfollowed_before_is_not_heard(self, ports: Ports, ear: Ear, task: str) -> None:
        await ear.bus.follow(PROJECT, task)
        ear.bus.unfollow(PROJECT, task)
        await cut(ports)
        await interruption(ear)

        await change(ports)

        assert changes(await ear.so_far()) == []

    @pytest.mark.parametrize("steps", range(0, 20, 2))
    async def test_who_follows_meanwhile_hears_or_is_told_of_the_outage(
        self, ports: Ports, ear: Ear, task: str, steps: int
    ) -> None:
        await cut(ports)
        for _ in range(steps):
            await asyncio.sleep(0)
        following = True
        try:
            await ear.bus.follow(PROJECT, task)
        except StoreUnavailable:
            following = False
        await interruption(ear)

        await change(ports)

        assert bool(changes(await ear.so_far())) == following
        await ear.bus.follow(PROJECT, task)
        await change(ports)
        assert A in await ear.so_far()

    async def test_when_it_is_told_the_subscriptions_are_in_force(
        self, ports: Ports, ear: Ear, task: str
    ) -> None:
        """What is read after `Reconnected` and what is signalled leave no gap."""
        await ear.bus.follow(PROJECT, task)
        for _ in range(20):
            await cut(ports)
            await interruption(ear)
            await ports.tasks.pause(PROJECT, task)
            assert A in await ear.so_far()
            await ports.tasks.resume(PROJECT, task)
            await ear.so_far()
