"""What can go wrong, each fault with its own end: after it that part of the world is whole again.

Faults of three kinds are done side by side, so that they overlap: to whole servers, to single workers, and
to the store. Who does something to a server has its `turn`.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from tests.chaos.clustered import ClusterStore
from tests.chaos.world import LEASE_MS, PARTITIONS, Instance, World, frozen, kill


class Tally(Counter[str]):
    """How often each fault was done, and `worker kills` and `store kills`."""


Fault = Callable[[World, random.Random, Tally], Awaitable[None]]


async def kill_a_server(world: World, draw: random.Random, tally: Tally) -> None:
    """kill -9 of all its processes, and a start some time later."""
    instance = draw.choice(world.instances)
    async with instance.turn:
        tally["worker kills"] += await instance.crash()
        await _let_pass(draw.uniform(0, 2))
        await instance.begin()


async def kill_all_servers(world: World, draw: random.Random, tally: Tally) -> None:
    """kill -9 of all at once."""
    async with AsyncExitStack() as stack:
        for instance in world.instances:
            await stack.enter_async_context(instance.turn)
        tally["worker kills"] += sum(
            await asyncio.gather(*(instance.crash() for instance in world.instances))
        )
        await _let_pass(draw.uniform(0, 1))
        await asyncio.gather(*(instance.begin() for instance in world.instances))


async def freeze_a_server(world: World, draw: random.Random, tally: Tally) -> None:
    """SIGSTOP of all its processes past the lease, then SIGCONT: what they come back with is stale."""
    instance = draw.choice(world.instances)
    async with instance.turn, AsyncExitStack() as stack:
        for pid in instance.family():
            await stack.enter_async_context(frozen(pid))
        await _let_pass(_longer_than_the_lease(draw))


async def roll(world: World, draw: random.Random, tally: Tally) -> None:
    """A rolling restart."""
    for instance in world.instances:
        await _restart(instance)


async def restart_in_order(world: World, draw: random.Random, tally: Tally) -> None:
    """SIGTERM of one server, and a start."""
    await _restart(draw.choice(world.instances))


async def _restart(instance: Instance) -> None:
    async with instance.turn:
        await instance.end()
        await instance.begin()


async def kill_a_worker(world: World, draw: random.Random, tally: Tally) -> None:
    """kill -9 of one worker of several: its supervisor starts another one."""
    instance = draw.choice([instance for instance in world.instances if instance.supervised])
    async with instance.turn:
        if workers := instance.workers():
            kill(draw.choice(workers))
            tally["worker kills"] += 1


async def freeze_a_worker(world: World, draw: random.Random, tally: Tally) -> None:
    """SIGSTOP of one worker past its lease, and SIGCONT."""
    instance = draw.choice(world.instances)
    async with instance.turn:
        if workers := instance.workers():
            async with frozen(draw.choice(workers)):
                await _let_pass(_longer_than_the_lease(draw))


async def kill_the_store(world: World, draw: random.Random, tally: Tally) -> None:
    """kill -9 of the store, and a start on its append-only file."""
    if (killed := world.store.kill()) is not None:
        await killed
    tally["store kills"] += 1
    await _let_pass(draw.uniform(0, 2))
    await world.store.start()
    # The next fault may have to talk to it.
    await world.store.loaded()


async def freeze_the_store(world: World, draw: random.Random, tally: Tally) -> None:
    """SIGSTOP of the store with its sockets open."""
    world.store.freeze()
    await _let_pass(draw.uniform(0.2, 3))
    world.store.thaw()


async def cut_every_connection(world: World, draw: random.Random, tally: Tally) -> None:
    """The store drops all its clients: answers are lost, signals are missed."""
    async with world.store.client() as client:
        for kind in ("normal", "pubsub"):
            await client.client_kill_filter(_type=kind, skipme=True)


async def fill_the_store(world: World, draw: random.Random, tally: Tally) -> None:
    """The store is out of memory for a while."""
    async with world.store.client() as client:
        await client.config_set("maxmemory", "1mb")
        await _let_pass(draw.uniform(0.2, 1.5))
        await client.config_set("maxmemory", "0")


async def refuse_writes(world: World, draw: random.Random, tally: Tally) -> None:
    """The store asks for replicas that it does not have: NOREPLICAS."""
    async with world.store.client() as client:
        await client.config_set("min-replicas-to-write", "9")
        await _let_pass(draw.uniform(0.2, 1.5))
        await client.config_set("min-replicas-to-write", "0")


async def forget_scripts(world: World, draw: random.Random, tally: Tally) -> None:
    """The store has none of the scripts any more."""
    async with world.store.client() as client:
        await client.script_flush()


async def fail_over_in_order(world: World, draw: random.Random, tally: Tally) -> None:
    """A replica of a cluster takes over from its primary, with all that it has."""
    if isinstance(world.store, ClusterStore):
        await world.store.fail_over_in_order()


async def move_a_slot(world: World, draw: random.Random, tally: Tally) -> None:
    """A partition goes to another node of a cluster."""
    if isinstance(world.store, ClusterStore):
        await world.store.move_a_slot(PARTITIONS)


def _longer_than_the_lease(draw: random.Random) -> float:
    return LEASE_MS / 1_000 * draw.uniform(1.2, 2.5)


#: Of each kind one fault at a time. What comes twice is done twice as often.
LANES: dict[str, tuple[Fault, ...]] = {
    "servers": (kill_a_server, kill_all_servers, freeze_a_server, roll, restart_in_order),
    "workers": (kill_a_worker, kill_a_worker, freeze_a_worker),
    "store": (
        kill_the_store,
        freeze_the_store,
        cut_every_connection,
        fill_the_store,
        refuse_writes,
        forget_scripts,
    ),
}
#: To a cluster besides.
_OF_A_CLUSTER: tuple[Fault, ...] = (fail_over_in_order, move_a_slot)
_LONGEST_PAUSE_S = {"servers": 3.0, "workers": 2.5, "store": 3.0}


async def inject(world: World, seed: int, tally: Tally, enough: Callable[[], bool]) -> None:
    """Do faults of all kinds side by side, each of them once and then on until it is `enough`."""

    async def go_on(lane: str, faults: tuple[Fault, ...]) -> None:
        draw = random.Random(f"{seed}/{lane}")
        # Every fault once, in an order of the seed's, then at random: a short run has its share of each.
        plan = list(dict.fromkeys(faults))
        draw.shuffle(plan)
        while plan or not enough():
            fault = plan.pop() if plan else draw.choice(faults)
            await fault(world, draw, tally)
            tally[fault.__name__] += 1
            await _let_pass(draw.uniform(0.2, _LONGEST_PAUSE_S[lane]))

    async with asyncio.TaskGroup() as group:
        for lane, faults in LANES.items():
            of_a_cluster = lane == "store" and isinstance(world.store, ClusterStore)
            group.create_task(go_on(lane, faults + _OF_A_CLUSTER if of_a_cluster else faults))


async def _let_pass(seconds: float) -> None:
    # How long a fault lasts is part of the fault: there is nothing to wait for.
    await asyncio.sleep(seconds)
