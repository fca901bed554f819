"""Two servers on one store, each with callers of its own: quotas, tokens and deletions are of one piece."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest

from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb import task_service_pb2 as tasks_pb
from kuueri_grpc.pb import token_pb2
from tests.acceptance.caller import Project, after, connected, post, register
from tests.acceptance.served import PATIENCE_S
from tests.acceptance.targets import Target, held
from tests.outages.servers import Served, serving
from tests.outages.valkeys import Valkey
from tests.service.statuses import Refusal, refusal, refusal_of, unpacked
from tests.store.raw import read

pytestmark = pytest.mark.timeout(240)

LIMIT = 100
CLIENTS = 64
HOUR_MS = 3_600_000
ENVIRONMENT = {"TASKS_SERVICE__QUEUE__LIMIT": str(LIMIT), "TASKS_SERVICE__LEASE_MS": "5000"}


@dataclass
class Pair:
    """Two servers on one store, and a project as each of them sees it."""

    store_url: str
    servers: tuple[Served, Served]
    here: Project
    there: Project

    def left(self) -> set[tuple[int, str]]:
        """Return the keys that have anything of the project."""
        return read(self.store_url).names_with(self.here.project_id)

    async def nothing_is_left(self) -> None:
        """Return when the project is gone. Nobody tells when a key is removed."""
        async with asyncio.timeout(PATIENCE_S):
            while await asyncio.to_thread(self.left):
                pass


@pytest.fixture
async def pair(tmp_path: Path, valkey: Valkey, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """`parametrize("pair", [{...}], indirect=True)` gives the first of the servers an environment."""
    env = ENVIRONMENT | getattr(request, "param", {})
    async with (
        serving(tmp_path / "here", valkey.url, env) as (here, channel),
        serving(tmp_path / "there", valkey.url, ENVIRONMENT) as (there, other_channel),
    ):
        project = await register(channel)
        yield Pair(valkey.url, (here, there), project, project.on(other_channel))


class TestQuota:
    async def test_raced_by_many_clients_exactly_the_limit_is_accepted(self, pair: Pair) -> None:
        async with AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(connected(pair.servers[n % 2].address))
                for n in range(CLIENTS)
            ]
            clients = [pair.here.on(channel) for channel in channels]

            assert await race(clients) == LIMIT
            assert (await pair.there.facts()).task_in_queue == LIMIT

            # What is given back can be taken again, and no more than that.
            tasks = (await pair.here.list(page_size=LIMIT)).tasks
            await asyncio.gather(*(clients[n].cancel(tasks[n].task_id) for n in range(7)))
            assert await race(clients) == 7
            assert (await pair.here.facts()).task_in_queue == LIMIT


async def race(clients: list[Project]) -> int:
    """Have every client subscribe tasks one by one and in a batch; return how many were accepted."""
    counts = await asyncio.gather(
        *(one_by_one(client) for client in clients), *(in_a_batch(client) for client in clients)
    )
    return sum(counts)


async def one_by_one(client: Project) -> int:
    accepted = 0
    for _ in range(5):
        try:
            await client.subscribe(post("https://example.com/", schedule=after(HOUR_MS)))
        except grpc.aio.AioRpcError as error:
            assert_quota(refusal_of(error))
        else:
            accepted += 1
    return accepted


async def in_a_batch(client: Project) -> int:
    results = await client.batch([post("https://example.com/", schedule=after(HOUR_MS))] * 5)
    for result in results:
        if result.HasField("error"):
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            assert result.error.code == code.value[0]
            assert_quota(Refusal(code, result.error.message, unpacked(result.error)))
    return sum(result.HasField("task") for result in results)


def assert_quota(refused: Refusal) -> None:
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_TASKS_IN_QUEUE")
    (violation,) = refused.details["QuotaFailure"].violations
    assert f"limit of {LIMIT} tasks" in violation.description


class TestTokens:
    @pytest.mark.parametrize("how", ["rotated", "revoked"])
    async def test_one_that_ends_here_opens_nothing_there(self, pair: Pair, how: str) -> None:
        """Also a watch that it opened there: that is how this hears of it."""
        request = projects_pb.CreateTokenRequest(scope=token_pb2.TOKEN_SCOPE_FULL)
        made = await pair.here.projects.CreateToken(request, metadata=pair.here.metadata)
        metadata = (("authorization", f"Bearer {made.token}"),)
        watch = aiter(pair.there.tasks.Watch(tasks_pb.WatchRequest(all=True), metadata=metadata))
        assert (await anext(watch)).HasField("synced")

        if how == "rotated":
            await pair.here.projects.RotateToken(
                projects_pb.RotateTokenRequest(), metadata=pair.here.metadata
            )
        else:
            revoke = projects_pb.RevokeTokenRequest(key_id=made.access_token.key_id)
            await pair.here.projects.RevokeToken(revoke, metadata=pair.here.metadata)

        assert_invalid(await soon(refusal(watch)))
        assert_invalid(
            await refusal(pair.there.projects.GetProject(projects_pb.GetProjectRequest(), metadata=metadata))
        )


def assert_invalid(refused: Refusal) -> None:
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


async def soon(refused: Awaitable[Refusal]) -> Refusal:
    async with asyncio.timeout(PATIENCE_S):
        return await refused


class TestDeletion:
    async def in_flight(self, pair: Pair, target: Target, count: int) -> None:
        """Have attempts of the project in flight, on whichever server, and more tasks that wait."""
        url = target.script("/held", held(asyncio.Event()))
        await pair.here.batch([post(url) for _ in range(count)])
        await target.received("/held", count)
        await pair.here.batch([post(url, schedule=after(HOUR_MS)) for _ in range(20)])

    async def test_takes_attempts_in_flight_from_every_server(self, pair: Pair, target: Target) -> None:
        await self.in_flight(pair, target, 40)
        email = (await pair.here.facts()).email

        await pair.there.projects.DeleteProject(
            projects_pb.DeleteProjectRequest(), metadata=pair.there.metadata
        )

        for exchange in target.at("/held"):
            await exchange.connection_lost()
        assert len(target.at("/held")) == 40
        assert not pair.left()
        assert_invalid(await refusal(pair.there.facts()))
        again = await pair.here.projects.Register(projects_pb.RegisterRequest(email=email))
        assert again.project.task_in_queue == 0

    @pytest.mark.parametrize("pair", [{"TASKS_ROLES": "api"}], indirect=True)
    async def test_that_a_crash_broke_off_is_finished_by_the_next_process(
        self, pair: Pair, target: Target
    ) -> None:
        """It waits for the holder of the attempts, which is frozen, when its own process is killed."""
        await self.in_flight(pair, target, 40)
        here, there = pair.servers
        there.send_to_group(signal.SIGSTOP)
        call = pair.here.projects.DeleteProject(
            projects_pb.DeleteProjectRequest(), metadata=pair.here.metadata
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                # Nobody tells when a step is done.
                while not any(":closed" in key for _, key in await asyncio.to_thread(pair.left)):
                    pass
            here.kill()
            with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                await call
            assert pair.left()
        finally:
            there.send_to_group(signal.SIGCONT)

        await asyncio.to_thread(here.start)

        await pair.nothing_is_left()
        assert len(target.at("/held")) == 40
