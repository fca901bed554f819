"""The limits of connections and streams, each acting on a real channel."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import grpc
import grpc.aio
import pytest
from grpc import ChannelConnectivity

from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.pb.project_service_pb2_grpc import ProjectServiceStub
from kuueri_grpc.pb.task_service_pb2_grpc import TaskServiceStub
from kuueri_grpc.ports import Telemetry
from kuueri_grpc.service import streams
from kuueri_grpc.service.wire import WireLimits
from tests.service import watching
from tests.service.edge import Caller, Edge, connect, serving
from tests.service.statuses import Refusal, refusal

#: How long anything may take before a test gives up on it: much longer than on a busy machine.
PATIENCE_S = 30.0

Serve: TypeAlias = Callable[[WireLimits], AbstractAsyncContextManager[tuple[Edge, Caller]]]


class Ended(Telemetry):
    """Sets an event when a watch has ended."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def call_ended(self, method: str, code: str, seconds: float | None) -> None:
        if method == "TaskService/Watch":
            self.event.set()


@pytest.fixture
async def telemetry() -> Ended:
    return Ended()


@pytest.fixture
async def ended(telemetry: Ended) -> asyncio.Event:
    return telemetry.event


@pytest.fixture
def serve(store_url: str, telemetry: Ended) -> Serve:
    @asynccontextmanager
    async def serve(wire: WireLimits) -> AsyncIterator[tuple[Edge, Caller]]:
        async with serving(store_url, wire=wire, telemetry=telemetry) as edge:
            owner = await edge.register("owner@example.com")
            await watching.subscribe(edge, owner, watching.task("a"))
            yield edge, owner

    return serve


async def get_project(channel: grpc.aio.Channel, owner: Caller, *metadata: tuple[str, str]) -> None:
    stub = ProjectServiceStub(channel)
    answer = await stub.GetProject(
        projects_pb.GetProjectRequest(), metadata=(*owner.metadata, *metadata), timeout=PATIENCE_S
    )
    assert answer.project.project_id == owner.project_id


async def closing(channel: grpc.aio.Channel) -> None:
    """Return when the server has closed the connection of a channel that is connected."""
    async with asyncio.timeout(PATIENCE_S):
        while (state := channel.get_state()) is ChannelConnectivity.READY:
            await channel.wait_for_state_change(state)


class TestMessages:
    async def test_metadata_beyond_the_limit_is_refused_and_the_next_call_served(self, serve: Serve) -> None:
        async with serve(WireLimits(max_metadata_bytes=4_000)) as (edge, owner):
            await get_project(edge.channel, owner, ("x-fits", "x" * 3_000))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await get_project(edge.channel, owner, ("x-large", "x" * 5_000))
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await get_project(edge.channel, owner)


class TestStreams:
    async def test_a_call_beyond_the_limit_of_a_connection_waits_for_one_to_end(self, serve: Serve) -> None:
        async with serve(WireLimits(max_streams=2)) as (edge, owner), connect(edge.server.port) as channel:
            stub = TaskServiceStub(channel)
            watches = [stub.Watch(watching_all(), metadata=owner.metadata) for _ in range(2)]
            for watch in watches:
                await watch.read()
            waiting = asyncio.create_task(get_project(channel, owner))
            # Others are not affected; by the time that all these are answered, it would have been too.
            for _ in range(50):
                await get_project(edge.channel, owner)
            assert not waiting.done()
            watches[0].cancel()
            await waiting

    async def test_a_watch_beyond_the_limit_of_a_project_is_refused_until_one_ends(
        self, serve: Serve, ended: asyncio.Event
    ) -> None:
        async with serve(WireLimits(max_watches=2)) as (edge, owner):
            stranger = await edge.register("stranger@example.com")
            watches = [watching.call(edge, owner, watching_all()) for _ in range(2)]
            for watch in watches:
                await watch.read()
            refused = await refusal(watching.watch(edge, owner, watching_all()))
            assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_WATCHES")
            assert refused.details["ErrorInfo"].metadata["limit"] == "2"
            (violation,) = refused.details["QuotaFailure"].violations
            assert violation.subject == f"project:{owner.project_id}"
            # Another project has its own.
            assert await watching.read(watching.watch(edge, stranger, watching_all()), 1)

            ended.clear()
            watches[0].cancel()
            await ended.wait()
            assert await watching.read(watching.watch(edge, owner, watching_all()), 1)


class TestAge:
    async def test_a_connection_that_has_reached_its_age_is_closed_and_calls_go_on_with_another(
        self, serve: Serve
    ) -> None:
        async with serve(WireLimits(max_age_s=0.2)) as (edge, owner), connect(edge.server.port) as channel:
            for _ in range(3):
                await get_project(channel, owner)
                await closing(channel)

    async def test_a_watch_ends_before_its_connection_is_cut_and_is_resumed_without_a_gap(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Much earlier than else: gRPC's cut comes on time, also where the loop that is to end it is late.
        monkeypatch.setattr(streams, "_LASTS", (0.01, 0.02))
        wire = WireLimits(max_age_s=0.1, age_grace_s=20.0)
        async with serve(wire) as (edge, owner), connect(edge.server.port) as channel:
            stub, token = TaskServiceStub(channel), ""
            seen: list[int] = []
            ends: list[Refusal] = []
            while len(ends) < 3:
                request = pb.WatchRequest(task_id="a", resume_token=token)
                stream = aiter(stub.Watch(request, metadata=owner.metadata, timeout=PATIENCE_S))

                async def messages(stream: watching.Stream = stream) -> AsyncIterator[None]:
                    nonlocal token
                    async for message in stream:
                        token = message.resume_token
                        if message.WhichOneof("message") == "event":
                            seen.append(message.event.sequence)
                        yield

                ends.append(await refusal(messages()))
                # Happens while nobody watches.
                await (watching.resume if len(ends) % 2 == 0 else watching.pause)(edge, owner)
            assert {(end.code, end.reason) for end in ends} == {
                (grpc.StatusCode.UNAVAILABLE, "CONNECTION_AGED")
            }
            assert ends[0].details["RetryInfo"].retry_delay.ToMilliseconds() == 0
            assert seen == [1, 2, 3]  # the fourth event came after the last watch

    async def test_a_connection_without_calls_is_closed(self, serve: Serve) -> None:
        async with serve(WireLimits(max_idle_s=0.1)) as (edge, owner), connect(edge.server.port) as channel:
            await get_project(channel, owner)
            await closing(channel)
            await get_project(channel, owner)


class TestKeepalive:
    async def test_a_client_that_pings_too_often_is_sent_away(self, serve: Serve) -> None:
        pinging = (
            ("grpc.keepalive_time_ms", 20),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        )
        async with serve(WireLimits(min_ping_s=60)) as (edge, owner):
            async with connect(edge.server.port, None, *pinging) as channel:
                stream = TaskServiceStub(channel).Watch(
                    watching_all(), metadata=owner.metadata, timeout=PATIENCE_S
                )
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    async for _ in stream:
                        pass
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "too many pings" in str(caught.value.details()).lower()

    async def test_a_client_that_no_longer_answers_is_taken_for_gone(
        self, serve: Serve, ended: asyncio.Event
    ) -> None:
        wire = WireLimits(keepalive_s=0.2, keepalive_timeout_s=0.2)
        async with (
            serve(wire) as (edge, owner),
            relayed(edge.server.port) as (port, cut),
            connect(port) as channel,
        ):
            watch = TaskServiceStub(channel).Watch(watching_all(), metadata=owner.metadata)
            await watch.read()
            assert edge.engine.watches.watchers == 1
            ended.clear()
            cut.set()
            async with asyncio.timeout(PATIENCE_S):
                await ended.wait()
            assert edge.engine.watches.watchers == 0

    async def test_who_connects_and_says_nothing_is_let_go(self, serve: Serve) -> None:
        async with serve(WireLimits(handshake_s=0.2)) as (edge, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
            async with asyncio.timeout(PATIENCE_S):
                await reader.read()
            writer.close()


def watching_all() -> pb.WatchRequest:
    return pb.WatchRequest(all=True)


@asynccontextmanager
async def relayed(port: int) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """Give a port that leads to `port`, and an event that lets nothing through any more, either way."""
    cut = asyncio.Event()
    pumps: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if not cut.is_set():
                writer.write(data)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, far_writer))
        for pair in ((reader, far_writer), (far_reader, writer)):
            pumps.add(asyncio.create_task(pump(*pair)))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], cut
    finally:
        server.close()
        for task in pumps:
            task.cancel()
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)
