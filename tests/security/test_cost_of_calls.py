"""What one caller can make a server spend, seen from beside it: others are answered, and memory is bounded.

Bytes are asserted generously and on the peak of the process, time is not.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.pb.task_pb2 import HttpTarget, Task
from kuueri_grpc.pb.task_service_pb2_grpc import TaskServiceStub
from tests.acceptance.caller import Project, connected, register
from tests.acceptance.served import LOOPBACK, PATIENCE_S, Server
from tests.fuzz.test_every_rpc import UNTHROTTLED
from tests.service.statuses import refusal

MIB = 1_048_576
#: What the peak of the server's memory may rise by.
_SLACK_BYTES = 128 * MIB
_AT_ONCE = 12
_HELD_AT_ONCE = 6
_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
_HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
_TASKS = "/kuueri.tasks.v1.TaskService/"
_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
#: A field that no message of the API has.
_UNKNOWN_FIELD = b"\xfa\x7f"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("cost"), *LOOPBACK, "--workers", "1", env=UNTHROTTLED) as server:
        yield server
        assert "Traceback" not in server.log
        assert " ERROR " not in server.log


@pytest.fixture
async def neighbour(server: Server) -> AsyncIterator[Project]:
    async with connected(server.address) as channel:
        yield await register(channel)


@pytest.fixture
async def attacker(server: Server) -> AsyncIterator[Project]:
    async with connected(server.address) as channel:
        yield await register(channel)


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1_024


def reset_peak(pid: int) -> int:
    # See proc_pid_clear_refs(5).
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_bytes(pid)


@asynccontextmanager
async def beside(server: Server, neighbour: Project, most_bytes: int = _SLACK_BYTES) -> AsyncIterator[None]:
    """Call for the neighbour while the block runs: each call is answered, and memory stays bounded."""
    before, done = reset_peak(server.pid), asyncio.Event()

    async def go_on() -> None:
        while not done.is_set():
            assert (await neighbour.facts()).project_id == neighbour.project_id

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(go_on())
        yield
        done.set()
    assert (await neighbour.facts()).project_id == neighbour.project_id
    assert server.running
    assert peak_bytes(server.pid) - before < most_bytes


def field(number: int, value: bytes) -> bytes:
    length, coded = len(value), bytearray()
    while length >= 0x80:
        coded.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *coded, length]) + value


async def codes_of(
    count: int,
    channel: grpc.aio.Channel,
    path: str,
    message: bytes,
    *metadata: tuple[str, str],
    packed: bool = False,
) -> Counter[grpc.StatusCode]:
    """Make as many calls at once; return their statuses, OK where an answer comes first."""
    # To compress them takes the client some time, in which the server would not wait for all of them.
    writing = asyncio.Semaphore(2)
    calls = (first_code(writing, channel, path, message, *metadata, packed=packed) for _ in range(count))
    return Counter(await asyncio.gather(*calls))


async def first_code(
    writing: asyncio.Semaphore,
    channel: grpc.aio.Channel,
    path: str,
    message: bytes,
    *metadata: tuple[str, str],
    packed: bool,
) -> grpc.StatusCode:
    """Call, and return the status, or OK after the first answer. No answer is read further."""
    compression = grpc.Compression.Gzip if packed else None
    async with writing:
        stream: Any = channel.stream_stream(path)(
            metadata=metadata, timeout=PATIENCE_S, compression=compression
        )
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await stream.write(message)
    try:
        await stream.done_writing()
        if await stream.read() is not grpc.aio.EOF:
            return grpc.StatusCode.OK
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass
    else:
        return await stream.code()  # type: ignore[no-any-return]
    finally:
        if stream.done():
            stream.cancel()
    return await stream.code()  # type: ignore[no-any-return]


class TestWithoutAToken:
    @pytest.mark.parametrize(
        ("path", "number"), [(_REFLECTION, 4), (_HEALTH_WATCH, 1)], ids=["reflection", "health"]
    )
    @pytest.mark.parametrize(("size", "packed"), [(16 * MIB, True), (7 * MIB, False)], ids=["gzip", "plain"])
    async def test_a_large_message_is_refused(
        self, server: Server, neighbour: Project, path: str, number: int, size: int, packed: bool
    ) -> None:
        message = field(number, b"a" * size)
        async with beside(server, neighbour), connected(server.address) as channel:
            codes = await codes_of(_AT_ONCE, channel, path, message, packed=packed)
        assert codes == {_EXHAUSTED: _AT_ONCE}

    async def test_small_messages_are_taken_packed_or_not(self, server: Server) -> None:
        name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name).SerializeToString()
        async with connected(server.address) as channel:
            for packed in (False, True):
                for path, message in ((_REFLECTION, request), (_HEALTH_WATCH, b"")):
                    codes = await codes_of(2, channel, path, message, packed=packed)
                    assert codes == {grpc.StatusCode.OK: 2}

    async def test_streams_of_one_address_are_counted(self, server: Server, neighbour: Project) -> None:
        async with beside(server, neighbour), connected(server.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            watches = [stub.Watch(health_pb2.HealthCheckRequest(service="a" * 3_000)) for _ in range(100)]
            for watch in watches:
                assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            more: Any = stub.Watch(health_pb2.HealthCheckRequest())
            refused = await refusal(aiter(more))
            assert (refused.code, refused.reason) == (_EXHAUSTED, "QUOTA_OPEN_STREAMS")
            # What is no stream is not among them.
            await stub.Check(health_pb2.HealthCheckRequest())
            watches.pop().cancel()
            await until_open(lambda: stub.Watch(health_pb2.HealthCheckRequest()))

    @pytest.mark.parametrize("method", ["Subscribe", "BatchSubscribe", "GetTask", "Watch"])
    async def test_a_call_is_refused_before_its_message_is_received(
        self, server: Server, method: str
    ) -> None:
        async with connected(server.address) as channel:
            stream: Any = channel.stream_stream(f"{_TASKS}{method}")(timeout=PATIENCE_S)
            # Nothing was sent but the metadata.
            assert await stream.code() is grpc.StatusCode.UNAUTHENTICATED

    async def test_conversations_that_break_off_are_not_in_the_log(self, server: Server) -> None:
        request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="kuueri.tasks.v1.TaskService")

        async def break_off(turns: int) -> None:
            async with connected(server.address) as channel:
                stream: Any = channel.stream_stream(_REFLECTION)()
                for _ in range(turns):
                    await stream.write(request.SerializeToString())
                if turns % 2:
                    await stream.read()
                stream.cancel()

        for turns in range(1, 20):
            await asyncio.gather(*(break_off(turns) for _ in range(8)))
        assert "Traceback" not in server.log


class TestWithAToken:
    @pytest.mark.parametrize("method", ["Watch", "ListTasks"])
    async def test_unknown_fields_are_not_kept(
        self, server: Server, neighbour: Project, attacker: Project, method: str
    ) -> None:
        message = pb.WatchRequest(all=True).SerializeToString() if method == "Watch" else b""
        message += _UNKNOWN_FIELD + field(1, b"a" * 16 * MIB)[1:]
        async with beside(server, neighbour), connected(server.address) as channel:
            path = f"{_TASKS}{method}"
            codes = await codes_of(_AT_ONCE, channel, path, message, *attacker.metadata, packed=True)
        assert codes == {_EXHAUSTED: _AT_ONCE}

    @pytest.mark.parametrize(
        "message",
        [
            b"\x0a\x00" * (4 * MIB - 1),
            pb.BatchSubscribeRequest(
                tasks=[Task(labels={f"{i}": "" for i in range(600_000)})]
            ).SerializeToString(),
            pb.BatchSubscribeRequest(
                tasks=[Task(http_target=HttpTarget(headers={f"{i}": "" for i in range(4_000)}))]
            ).SerializeToString()
            * 150,
        ],
        ids=["empty tasks", "labels", "headers"],
    )
    async def test_a_batch_of_many_fields_is_refused(
        self, server: Server, neighbour: Project, attacker: Project, message: bytes
    ) -> None:
        assert len(message) < 8 * MIB
        # Each is parsed as far as its fields are few enough.
        most = 4 * len(message) + 3 * _SLACK_BYTES
        async with beside(server, neighbour, most), connected(server.address) as channel:
            path = f"{_TASKS}BatchSubscribe"
            codes = await codes_of(4, channel, path, message, *attacker.metadata, packed=True)
        assert set(codes) <= {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OK}

    async def test_batches_of_many_fields_at_once_are_handled_by_turns(
        self, server: Server, neighbour: Project, attacker: Project
    ) -> None:
        task = Task(
            http_target=HttpTarget(url="http://127.0.0.1:1/", headers={f"a{i}": "" for i in range(2_900)})
        )
        task.schedule.delay.FromSeconds(3_600)
        message = pb.BatchSubscribeRequest(tasks=[task] * 150).SerializeToString()
        # What is made of one takes some 100 MiB.
        most = _HELD_AT_ONCE * len(message) + 2 * _SLACK_BYTES
        async with beside(server, neighbour, most), connected(server.address) as channel:
            path = f"{_TASKS}BatchSubscribe"
            codes = await codes_of(_HELD_AT_ONCE, channel, path, message, *attacker.metadata, packed=True)
        assert codes == {grpc.StatusCode.OK: _HELD_AT_ONCE}

    async def test_a_filter_of_many_labels_is_refused(self, attacker: Project) -> None:
        request = pb.ListTasksRequest(labels={f"a{i}": "" for i in range(65)})
        refused = await refusal(attacker.tasks.ListTasks(request, metadata=attacker.metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        request.labels.update({f"a{i}": "" for i in range(500_000)})
        refused = await refusal(attacker.tasks.ListTasks(request, metadata=attacker.metadata))
        assert (refused.code, refused.reason) == (_EXHAUSTED, "MESSAGE_TOO_LARGE")

    async def test_an_honest_client_opens_1500_watches_at_once(
        self, server: Server, neighbour: Project
    ) -> None:
        async with connected(server.address) as channel:
            stub = TaskServiceStub(channel)

            async def open_one() -> Any:
                watch = stub.Watch(pb.WatchRequest(all=True), metadata=neighbour.metadata)
                return watch, await watch.read()

            opened = await asyncio.gather(*(open_one() for _ in range(1_500)))
            assert all(first.HasField("synced") for _, first in opened)

    async def test_deadlines_that_pass_while_answers_are_written_are_not_in_the_log(
        self, server: Server, attacker: Project
    ) -> None:
        async def hurry(i: int) -> str:
            try:
                await attacker.tasks.ListTasks(
                    pb.ListTasksRequest(), metadata=attacker.metadata, timeout=0.001 + i % 50 * 0.000_5
                )
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return "OK"

        codes: Counter[str] = Counter()
        for _ in range(20):
            codes.update(await asyncio.gather(*(hurry(i) for i in range(100))))
        assert codes["DEADLINE_EXCEEDED"]
        assert set(codes) <= {"OK", "DEADLINE_EXCEEDED"}
        assert "Traceback" not in server.log


async def until_open(call: Callable[[], Any]) -> None:
    """Call until the server has noticed that another stream is gone."""
    async with asyncio.timeout(PATIENCE_S):
        while await code_of_first(call()) is _EXHAUSTED:
            pass


async def code_of_first(stream: Any) -> grpc.StatusCode:
    try:
        await stream.read()
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
