"""A primary is killed while tasks are accepted and run: its replica takes over, and nothing else stops."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from kuueri_grpc.store import keys
from tests.acceptance.caller import types
from tests.acceptance.targets import held, listening
from tests.cluster.load import Load, fate_of
from tests.cluster.nodes import ELECTED, PATIENCE_S, SYNCED, Cluster, Node, ask, cluster
from tests.cluster.projects import PARTITIONS, projects_on_all_nodes
from tests.outages.calls import ONE_ATTEMPT, subscribe_all
from tests.outages.servers import serving

ENVIRONMENT = {
    "TASKS_WORKERS": "2",
    "TASKS_DATABASE__PARTITIONS": str(PARTITIONS),
    # Shorter than a fail-over takes.
    "TASKS_SERVICE__LEASE_MS": "1500",
}
HELD = 20


async def replicated(made: Cluster, node: Node) -> None:
    """Return when a primary's replica has everything that was written before this."""
    mark = next(key for key in (f"{{{p}}}:mark" for p in range(PARTITIONS)) if made.owner(key) is node)
    async with node.client() as direct:
        # WAIT is for the writes of its own connection: this one comes after all others.
        await direct.set(mark, "1", px=60_000)
        assert await ask(direct, "WAIT", 1, PATIENCE_S * 1_000) == 1


async def test_a_primary_is_killed_under_load(tmp_path: Path) -> None:
    async with (
        cluster(tmp_path / "nodes") as made,
        serving(tmp_path / "server", made.url, ENVIRONMENT) as (_, channel),
        listening() as target,
    ):
        await made.be_impatient()
        projects = await projects_on_all_nodes(made, channel)
        loads = {node: Load(project, node, target) for node, project in projects.items()}
        # The one that knows the store's identity and its instances, too.
        victim = made.owner(keys.STORE)
        answers = asyncio.Event()
        for i in range(HELD):
            target.script(f"/held/{i}", held(answers))
        in_flight = await subscribe_all(projects[victim], target, "/held", HELD, delay_ms=0)
        for i in range(HELD):
            await target.received(f"/held/{i}")

        async with asyncio.TaskGroup() as group:
            for load in loads.values():
                group.create_task(load.run())
            await gather_more(loads, 100)
            times = Times(replicated=time.monotonic())
            await replicated(made, victim)
            await gather_more(loads, 50)
            seen = {node: len(node.lines) for node in made.nodes if node is not victim}
            await victim.kill()
            times.killed = time.monotonic()
            await made.successor(victim).said(ELECTED)
            times.elected = time.monotonic()
            await made.whole_again(seen)
            await gather_more(loads, 100)
            for load in loads.values():
                load.stop()
        answers.set()

        for i, task_id in enumerate(in_flight):
            # Its lease ran out when nobody could renew it; its holder was given the time to do so then.
            _, events = await projects[victim].ended(task_id)
            assert types(events) == ONE_ATTEMPT
            assert len(target.at(f"/held/{i}")) == 1
        await account(loads, victim, times)
        # The old primary comes back as a replica.
        seen_of_victim = len(victim.lines)
        await victim.start()
        await victim.said(SYNCED, after=seen_of_victim)
        _, events = await projects[victim].ended(
            (await subscribe_all(projects[victim], target, "/after", 1, delay_ms=0))[0]
        )
        assert types(events) == ONE_ATTEMPT


@dataclass
class Times:
    """Monotonic seconds. What was accepted before `replicated` is on the replica."""

    replicated: float
    killed: float = 0.0
    elected: float = 0.0


async def gather_more(loads: dict[Node, Load], count: int) -> None:
    await asyncio.gather(*(load.more_accepted(count) for load in loads.values()))


async def account(loads: dict[Node, Load], victim: Node, times: Times) -> None:
    """Every accepted task has ended but what the replica had not got; second deliveries have a reason."""
    fates = {node: await fate_of(load) for node, load in loads.items()}
    hit = loads[victim]
    # The last answers of the killed node may have been read after its end.
    at_risk = hit.accepted_between(times.replicated, times.elected)
    meanwhile = sum(
        len(load.accepted_between(times.killed, times.elected))
        for node, load in loads.items()
        if node is not victim
    )
    lost, forgotten = fates[victim].lost, fates[victim].forgotten
    back = min(at for at in hit.accepted.values() if at > times.elected) - times.killed
    print(  # noqa: T201
        f"\naccepted {sum(len(load.accepted) for load in loads.values())}, "
        f"accepted on the others while one primary was gone {meanwhile}, "
        f"calls refused {sum(len(load.refused) for load in loads.values())}; "
        f"accepted and not known to be replicated {len(at_risk)}, of these lost {len(lost)}; "
        f"delivered twice after RECOVERED {sum(len(fate.recovered) for fate in fates.values())}, "
        f"delivered twice as the first delivery was lost {len(forgotten)}; "
        f"replica elected after {times.elected - times.killed:.2f} s, tasks accepted again after {back:.2f} s"
    )
    assert lost <= at_risk
    assert meanwhile > 0
    for node, fate in fates.items():
        assert fate.ended | fate.lost == set(loads[node].accepted)
        if node is not victim:
            assert not fate.lost
            assert not fate.forgotten
