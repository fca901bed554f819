"""Whatever is done to tasks in whatever order: the store stays consistent, and no task is lost.

Hypothesis makes up the histories. After every step all of the raw data is checked; at the end every task
is driven to its end, which shows that none is stuck.
"""

from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kuueri_grpc.domain.errors import KuueriError, ProjectNotFound, StoreUnavailable
from kuueri_grpc.domain.state import TERMINAL_STATES, TaskState, Trigger
from kuueri_grpc.domain.task import Schedule
from kuueri_grpc.ports import Claim, NewTask, TaskFilter
from kuueri_grpc.store.settings import StoreSettings
from tests.store.drive import REPORTS
from tests.store.invariants import check
from tests.store.ports import HOUR_MS, PROJECT, Ports, connected, report, spec

#: One partition, so that everything meets everything; two losses are one too many; a short timeline.
SETTINGS = StoreSettings(partitions=1, max_losses=2, timeline_cap=12)
PROJECTS = (PROJECT, "project1111111111")
TASKS = [f"t{n}" for n in range(5)]

projects, task_ids = st.sampled_from(PROJECTS), st.sampled_from(TASKS)
waits_ms = st.sampled_from([0, 1, HOUR_MS])
leases_ms = st.sampled_from([1, HOUR_MS])


@dataclass
class History:
    """A store that things are done to, and what its schedulers hold."""

    ports: Ports
    claims: list[Claim] = field(default_factory=list)

    async def subscribe(self, project: str, ids: list[str], queue: str, wait_ms: int, expires: bool) -> None:
        schedule = Schedule(delay_ms=wait_ms, start_deadline_ms=1 if expires else None)
        tasks = [NewTask(spec(task_id, queue=queue, schedule=schedule)) for task_id in ids]
        await self.ports.try_subscribe(*tasks, limit=4, project_id=project)

    async def claim(self, limit: int, lease_ms: int, instance: str) -> None:
        self.claims += await self.ports.claim(limit, lease_ms=lease_ms, instance=instance)

    async def report(self, places: list[int], trigger: Trigger, wait_ms: int) -> None:
        chosen = [self.claims[place] for place in places if place < len(self.claims)]
        await self.ports.execution.report([report(claim.lease, trigger, wait_ms or 1) for claim in chosen])

    async def renew(self, lease_ms: int) -> None:
        await self.ports.execution.renew([claim.lease for claim in self.claims], lease_ms)

    async def command(self, name: str, project: str, task_id: str) -> None:
        try:
            await getattr(self.ports.tasks, name)(project, task_id)
        except StoreUnavailable:
            raise
        except KuueriError:
            pass  # refused, which changes nothing

    async def delete(self, project: str, steps: int) -> None:
        """Delete a project, or get so far with it; one that is gone is made anew."""
        projects = self.ports.projects
        try:
            await projects.close(project)
        except ProjectNotFound:
            await self.ports.create_project(project)
            return
        if steps > 0:
            assert (await projects.end_tasks(project, None)).cursor is None
        if steps > 1:
            assert (await projects.erase_tasks(project)).left == 0
        if steps > 2:
            assert await projects.forget_requests(project)
            await projects.drop(project)

    async def pass_time(self) -> None:
        await self.ports.until(await self.ports.now_ms() + 3)

    async def crash(self) -> None:
        """Take everything that is due, and be heard of no more until the leases have run out."""
        await self.claim(100, 1, "doomed")
        await self.pass_time()

    async def finish(self) -> None:
        """End every task, whatever state it was left in, and every deletion."""
        for project in await self.ports.projects.closed():
            await self.delete(project, 3)
            assert not self.ports.raw().names_with(project)
        await self.claim(0, 1, "reaper")
        for project in PROJECTS:
            for task in (await self.ports.tasks.list_tasks(project, TaskFilter(), 100, None)).tasks:
                if task.state not in TERMINAL_STATES | {TaskState.DISPATCHING}:
                    await self.ports.tasks.run(project, task.spec.task_id)
        self.claims += await self.ports.claim(100)
        await self.ports.execution.report([report(claim.lease, Trigger.COMPLETE) for claim in self.claims])
        for project in PROJECTS:
            if self.ports.raw().names_with(f":project:{project}"):
                assert await self.ports.task_in_queue(project) == 0


def step(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.tuples(st.just(name), *arguments)


#: Commands are given by name, so that a failing history reads as what was done.
steps = st.one_of(
    step(
        "subscribe",
        projects,
        st.lists(task_ids, min_size=1, max_size=3),
        st.sampled_from(["q", "r"]),
        waits_ms,
        st.booleans(),
    ),
    step("claim", st.sampled_from([0, 1, 2, 100]), leases_ms, st.sampled_from(["one", "two"])),
    step(
        "report",
        st.lists(st.integers(0, 5), min_size=1, max_size=3),
        st.sampled_from(sorted(REPORTS)),
        waits_ms,
    ),
    step("renew", leases_ms),
    step(
        "command",
        st.sampled_from(["pause", "resume", "run", "cancel", "purge"]),
        projects,
        task_ids,
    ),
    step("delete", projects, st.integers(0, 3)),
    step("pass_time"),
    step("crash"),
)


@settings(
    max_examples=40,
    deadline=None,
    # A history takes real time, so one that failed does not fail every time, and cannot be made shorter.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(steps, min_size=5, max_size=25))
async def test_any_history(store_url: str, history: list[tuple[object, ...]]) -> None:
    async with connected(store_url, SETTINGS) as ports:
        await ports.everywhere("FLUSHALL")
        for project in PROJECTS:
            await ports.create_project(project)
        made = History(ports)
        await made.subscribe(PROJECT, TASKS[:3], "q", 0, expires=False)
        for name, *arguments in history:
            await getattr(made, str(name))(*arguments)
            check(store_url, SETTINGS.partitions, SETTINGS.timeline_cap)
        await made.finish()
        check(store_url, SETTINGS.partitions, SETTINGS.timeline_cap)
