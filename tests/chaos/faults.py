"""What can go wrong, each fault with its own end: after it the world is whole again."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable

from tests.chaos.clustered import ClusterStore
from tests.chaos.world import LEASE_MS, PARTITIONS, Instance, World

Fault = Callable[[World, random.Random], Awaitable[None]]


async def kill_a_server(world: World, draw: random.Random) -> None:
    """kill -9, and a start some time later."""
    instance = draw.choice(world.instances)
    await instance.crash()
    await _let_pass(draw.uniform(0, 2))
    await instance.begin()


async def kill_all_servers(world: World, draw: random.Random) -> None:
    """kill -9 of all at once."""
    for instance in world.instances:
        await instance.crash()
    await _let_pass(draw.uniform(0, 1))
    for instance in world.instances:
        await instance.begin()


async def freeze_a_server(world: World, draw: random.Random) -> None:
    """SIGSTOP past the lease, then SIGCONT: what it comes back with is stale."""
    instance = draw.choice(world.instances)
    instance.process.send(signal.SIGSTOP)
    await _let_pass(LEASE_MS / 1_000 * draw.uniform(1.2, 2.5))
    instance.process.send(signal.SIGCONT)


async def roll(world: World, draw: random.Random) -> None:
    """A rolling restart."""
    for instance in world.instances:
        await instance.end()
        await instance.begin()


async def restart_in_order(world: World, draw: random.Random) -> None:
    """SIGTERM of one server, and a start."""
    instance: Instance = draw.choice(world.instances)
    await instance.end()
    await instance.begin()


async def kill_the_store(world: World, draw: random.Random) -> None:
    """kill -9 of the store, and a start on its append-only file."""
    if (killed := world.store.kill()) is not None:
        await killed
    await _let_pass(draw.uniform(0, 2))
    await world.store.start()
    # The next fault may have to talk to it.
    await world.store.loaded()


async def freeze_the_store(world: World, draw: random.Random) -> None:
    """SIGSTOP of the store with its sockets open."""
    world.store.freeze()
    await _let_pass(draw.uniform(0.2, 3))
    world.store.thaw()


async def cut_every_connection(world: World, draw: random.Random) -> None:
    """The store drops all its clients: answers are lost, signals are missed."""
    async with world.store.client() as client:
        for kind in ("normal", "pubsub"):
            await client.client_kill_filter(_type=kind, skipme=True)


async def fill_the_store(world: World, draw: random.Random) -> None:
    """The store is out of memory for a while."""
    async with world.store.client() as client:
        await client.config_set("maxmemory", "1mb")
        await _let_pass(draw.uniform(0.2, 1.5))
        await client.config_set("maxmemory", "0")


async def refuse_writes(world: World, draw: random.Random) -> None:
    """The store asks for replicas that it does not have: NOREPLICAS."""
    async with world.store.client() as client:
        await client.config_set("min-replicas-to-write", "9")
        await _let_pass(draw.uniform(0.2, 1.5))
        await client.config_set("min-replicas-to-write", "0")


async def forget_scripts(world: World, draw: random.Random) -> None:
    """The store has none of the scripts any more."""
    async with world.store.client() as client:
        await client.script_flush()


async def fail_over_in_order(world: World, draw: random.Random) -> None:
    """A replica of a cluster takes over from its primary, with all that it has."""
    if isinstance(world.store, ClusterStore):
        await world.store.fail_over_in_order()


async def move_a_slot(world: World, draw: random.Random) -> None:
    """A partition goes to another node of a cluster."""
    if isinstance(world.store, ClusterStore):
        await world.store.move_a_slot(PARTITIONS)


FAULTS: tuple[Fault, ...] = (
    kill_a_server,
    kill_a_server,
    kill_all_servers,
    freeze_a_server,
    roll,
    restart_in_order,
    kill_the_store,
    freeze_the_store,
    cut_every_connection,
    fill_the_store,
    refuse_writes,
    forget_scripts,
)
#: On a cluster besides.
OF_A_CLUSTER: tuple[Fault, ...] = (fail_over_in_order, move_a_slot)


async def inject(world: World, draw: random.Random, until: float, told: list[str]) -> None:
    """Do one fault after the other until the event loop's time `until`; each is whole before the next."""
    loop = asyncio.get_running_loop()
    # Every fault once, in an order of the seed's, then at random: a short run has its share of each.
    faults = FAULTS + (OF_A_CLUSTER if isinstance(world.store, ClusterStore) else ())
    plan = list(dict.fromkeys(faults))
    draw.shuffle(plan)
    while loop.time() < until:
        fault = plan.pop() if plan else draw.choice(faults)
        began = loop.time()
        await fault(world, draw)
        told.append(f"{fault.__name__} ({loop.time() - began:.1f} s)")
        await _let_pass(draw.uniform(0.2, 1.5))


async def _let_pass(seconds: float) -> None:
    # How long a fault lasts is part of the fault: there is nothing to wait for.
    await asyncio.sleep(seconds)
