"""An answer is lost after the store has carried out the command: what is repeated changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb.project_service_pb2_grpc import ProjectServiceStub
from kuueri_grpc.store import keys
from kuueri_grpc.store.scripts import script
from tests.acceptance.caller import Project, new_email, post, register, state_name, types
from tests.acceptance.targets import Target, held, listening
from tests.outages.calls import ONE_ATTEMPT, subscribe_all, task_to
from tests.outages.proxy import Proxy, between
from tests.outages.servers import serving
from tests.outages.valkeys import Valkey, running
from tests.service.statuses import refusal

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR_MS = 3_600_000


@dataclass
class Lossy:
    """A server whose connections to the store go through a proxy, and a project on it."""

    proxy: Proxy
    channel: grpc.aio.Channel
    target: Target
    project: Project

    @asynccontextmanager
    async def answer_lost(self, script_name: str) -> AsyncIterator[None]:
        """Lose the answer to the next call of a script, which must be made in the block."""
        async with self.command_lost(script(script_name).sha.encode()):
            yield

    @asynccontextmanager
    async def command_lost(self, needle: bytes) -> AsyncIterator[None]:
        self.proxy.cut_answer_to(needle)
        yield
        await self.proxy.was_cut()

    async def waiting_task(self) -> str:
        """Subscribe a task that does not fall due; return its id."""
        (task_id,) = await subscribe_all(self.project, self.target, "/waiting", 1, HOUR_MS)
        return task_id

    async def events(self, task_id: str) -> list[str]:
        return types(await self.project.timeline(task_id))

    async def task_in_queue(self) -> int:
        answer = await self.project.projects.GetProject(
            projects_pb.GetProjectRequest(), metadata=self.project.metadata
        )
        return answer.project.task_in_queue


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Proxy, grpc.aio.Channel]]:
    directory = tmp_path_factory.mktemp("lossy")
    async with running(directory / "store") as valkey, between(valkey.port) as proxy:
        await load_scripts(valkey)
        async with serving(directory / "server", proxy.url) as (_, channel):
            yield proxy, channel


@pytest_asyncio.fixture(loop_scope="module")
async def lossy(system: tuple[Proxy, grpc.aio.Channel]) -> AsyncIterator[Lossy]:
    proxy, channel = system
    async with listening() as target:
        yield Lossy(proxy, channel, target, await register(channel))


async def load_scripts(valkey: Valkey) -> None:
    """Load them all: the answer that is to be lost would be that there is no such script."""
    names = [file.name for file in (resources.files("kuueri_grpc.store") / "lua").iterdir()]
    async with valkey.client() as store:
        for name in names:
            if name != "prelude.lua" and not name.startswith("lib_"):
                await store.script_load(script(name.removesuffix(".lua")).source)


async def test_answer_lost_after_commit_of_subscribe(lossy: Lossy) -> None:
    async with lossy.answer_lost("subscribe"):
        task_id = await lossy.waiting_task()
    assert await lossy.events(task_id) == ["SUBSCRIBED"]
    assert [task.task_id for task in (await lossy.project.list()).tasks] == [task_id]
    assert await lossy.task_in_queue() == 1


async def test_answer_lost_after_commit_of_a_batch(lossy: Lossy) -> None:
    """Several calls of the script in one pipeline: some may have been carried out, or all."""
    async with lossy.answer_lost("subscribe"):
        task_ids = await subscribe_all(lossy.project, lossy.target, "/batch", 250, HOUR_MS)
    assert len(set(task_ids)) == 250
    assert await lossy.task_in_queue() == 250


async def test_answer_lost_after_commit_of_cancel(lossy: Lossy) -> None:
    task_id = await lossy.waiting_task()
    async with lossy.answer_lost("cancel"):
        assert state_name(await lossy.project.cancel(task_id)) == "CANCELED"
    assert await lossy.events(task_id) == ["SUBSCRIBED", "CANCELED"]
    assert await lossy.task_in_queue() == 0


async def test_answer_lost_after_commit_of_pause_and_resume(lossy: Lossy) -> None:
    task_id = await lossy.waiting_task()
    async with lossy.answer_lost("pause"):
        assert state_name(await lossy.project.pause(task_id)) == "PAUSED"
    async with lossy.answer_lost("resume"):
        assert state_name(await lossy.project.resume(task_id)) == "SCHEDULED"
    assert await lossy.events(task_id) == ["SUBSCRIBED", "PAUSED", "RESUMED"]


async def test_answer_lost_after_commit_of_run(lossy: Lossy) -> None:
    task_id = await lossy.waiting_task()
    async with lossy.answer_lost("run"):
        await lossy.project.run(task_id)
    _, events = await lossy.project.ended(task_id)
    assert types(events) == ONE_ATTEMPT
    assert len(lossy.target.at("/waiting/0")) == 1


async def test_answer_lost_after_commit_of_purge(lossy: Lossy) -> None:
    task_id = await lossy.waiting_task()
    await lossy.project.cancel(task_id)
    async with lossy.answer_lost("purge"):
        # Not NOT_FOUND: it is this call that has deleted it.
        await lossy.project.purge(task_id)
    assert (await refusal(lossy.project.get(task_id))).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("script_name", ["claim", "report"])
async def test_answer_lost_after_commit_of_what_the_scheduler_does(lossy: Lossy, script_name: str) -> None:
    async with lossy.answer_lost(script_name):
        accepted = await lossy.project.subscribe(task_to(lossy.target, "/once"))
        _, events = await lossy.project.ended(accepted.task_id)
    assert types(events) == ONE_ATTEMPT
    assert len(lossy.target.at("/once")) == 1
    assert await lossy.task_in_queue() == 0


async def test_answer_lost_after_commit_of_renew(lossy: Lossy) -> None:
    answers = asyncio.Event()
    lossy.target.script("/held", held(answers))
    accepted = await lossy.project.subscribe(task_to(lossy.target, "/held"))
    await lossy.target.received("/held")
    async with lossy.answer_lost("renew"):
        pass
    answers.set()
    _, events = await lossy.project.ended(accepted.task_id)
    assert types(events) == ONE_ATTEMPT


@pytest.mark.parametrize("script_name", ["get", "timeline", "list"])
async def test_answer_lost_of_a_read(lossy: Lossy, script_name: str) -> None:
    task_id = await lossy.waiting_task()
    reads: dict[str, Awaitable[object]] = {
        "get": lossy.project.get(task_id),
        "timeline": lossy.project.timeline(task_id),
        "list": lossy.project.list(),
    }
    async with lossy.answer_lost(script_name):
        await asyncio.gather(*reads.values())


@pytest.mark.parametrize("step", ["the address is claimed", "the project is made"])
async def test_answer_lost_after_commit_of_register(lossy: Lossy, step: str) -> None:
    address = new_email()
    claimed, made = keys.email(address).encode(), script("project_create").sha.encode()
    async with lossy.command_lost(claimed if step == "the address is claimed" else made):
        answer = await ProjectServiceStub(lossy.channel).Register(projects_pb.RegisterRequest(email=address))
    registered = Project(lossy.channel, answer.project.project_id, answer.token, answer.signing_secret)
    assert len((await registered.list()).tasks) == 0


async def test_answer_lost_after_commit_of_a_repeated_register(lossy: Lossy) -> None:
    request = projects_pb.RegisterRequest(email=new_email(), request_id="a-request-id-of-some-length")
    projects = ProjectServiceStub(lossy.channel)
    first = await projects.Register(request)
    async with lossy.answer_lost("project_create"):
        answer = await projects.Register(request)
    assert answer.project == first.project
    registered = Project(lossy.channel, answer.project.project_id, answer.token, answer.signing_secret)
    assert len((await registered.list()).tasks) == 0


async def test_answer_lost_after_commit_of_rotate_token(lossy: Lossy) -> None:
    request = projects_pb.RotateTokenRequest()
    async with lossy.answer_lost("rotate_token"):
        answer = await lossy.project.projects.RotateToken(request, metadata=lossy.project.metadata)
    rotated = Project(lossy.channel, lossy.project.project_id, answer.token, "")
    assert len((await rotated.list()).tasks) == 0


@pytest.mark.parametrize(
    "step",
    [
        "project_close",
        "project_claim",
        "project_end",
        "project_erase",
        "project_forget",
        "free_email",
        "project_drop",
    ],
)
async def test_answer_lost_after_commit_of_a_step_of_a_deletion(lossy: Lossy, step: str) -> None:
    """The attempt in flight is aborted all the same, and nothing is left of the project."""
    gate = asyncio.Event()
    url = lossy.target.script(f"/{step}", held(gate))
    await lossy.project.subscribe(post(url))
    (exchange,) = await lossy.target.received(f"/{step}")
    await lossy.waiting_task()
    email = (await lossy.project.facts()).email

    async with lossy.answer_lost(step):
        await lossy.project.projects.DeleteProject(
            projects_pb.DeleteProjectRequest(), metadata=lossy.project.metadata
        )

    await exchange.connection_lost()
    refused = await refusal(lossy.project.facts())
    assert refused.reason == "TOKEN_INVALID"
    await ProjectServiceStub(lossy.channel).Register(projects_pb.RegisterRequest(email=email))


async def test_answer_lost_after_commit_of_rotate_signing_secret(lossy: Lossy) -> None:
    async with lossy.answer_lost("rotate_signing"):
        secret = await lossy.project.rotate_signing_secret()
    assert secret != lossy.project.signing_secret
