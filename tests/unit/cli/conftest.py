"""A gRPC server whose answers a test scripts: faults come on cue, over the real wire."""

import copy
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from kuueri_grpc.pb.task_service_pb2 import (
    CancelRequest,
    CancelResponse,
    GetTaskRequest,
    GetTaskResponse,
    GetTimelineRequest,
    GetTimelineResponse,
    ListTasksRequest,
    ListTasksResponse,
    WatchRequest,
    WatchResponse,
)
from kuueri_grpc.pb.task_service_pb2_grpc import TaskServiceServicer, add_TaskServiceServicer_to_server

Context = Any


@dataclass
class Refusal:
    """An error status with `google.rpc` details."""

    code: grpc.StatusCode
    message: str = "refused"
    details: tuple[Any, ...] = ()

    def abort(self, context: Context) -> None:
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            status.details.add().Pack(detail)
        context.abort_with_status(rpc_status.to_status(status))


class Silence:
    """No answer until the caller has given up."""

    def keep(self, context: Context) -> None:
        given_up = threading.Event()
        if context.add_callback(given_up.set):
            given_up.wait()


@dataclass
class ScriptedTasks(TaskServiceServicer):
    """Each call takes the next of its scripted answers; a Refusal in a stream breaks it off."""

    get_answers: list[GetTaskResponse | Refusal | Silence] = field(default_factory=list)
    list_answers: list[ListTasksResponse] = field(default_factory=list)
    cancel_answers: list[CancelResponse | Refusal] = field(default_factory=list)
    timeline_answers: list[GetTimelineResponse] = field(default_factory=list)
    watch_answers: list[list[WatchResponse | Refusal]] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)

    def _record(self, request: Any, context: Context) -> None:
        # A copy: the caller goes on with what it has.
        self.requests.append(copy.deepcopy(request))
        self.metadata.append(dict(context.invocation_metadata()))

    def _answer(self, answers: list[Any], request: Any, context: Context) -> Any:
        self._record(request, context)
        answer = answers.pop(0)
        if isinstance(answer, Refusal):
            answer.abort(context)
        if isinstance(answer, Silence):
            answer.keep(context)
            return None
        return answer

    # The names are those of the contract.
    def GetTask(self, request: GetTaskRequest, context: Context) -> Any:  # noqa: N802
        return self._answer(self.get_answers, request, context)

    def ListTasks(self, request: ListTasksRequest, context: Context) -> Any:  # noqa: N802
        return self._answer(self.list_answers, request, context)

    def Cancel(self, request: CancelRequest, context: Context) -> Any:  # noqa: N802
        return self._answer(self.cancel_answers, request, context)

    def GetTimeline(self, request: GetTimelineRequest, context: Context) -> Any:  # noqa: N802
        return self._answer(self.timeline_answers, request, context)

    def Watch(self, request: WatchRequest, context: Context) -> Iterator[WatchResponse]:  # noqa: N802
        self._record(request, context)
        for message in self.watch_answers.pop(0):
            if isinstance(message, Refusal):
                message.abort(context)
            else:
                yield message


@dataclass
class ScriptedServer:
    tasks: ScriptedTasks
    address: str
    refusal: type[Refusal] = Refusal
    silence: type[Silence] = Silence
    details: Any = error_details_pb2


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    # The calls that no test makes are left to the generated class, which refuses them.
    tasks = ScriptedTasks()  # type: ignore[abstract]
    grpc_server = grpc.server(ThreadPoolExecutor(max_workers=4))
    add_TaskServiceServicer_to_server(tasks, grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    yield ScriptedServer(tasks, f"127.0.0.1:{port}")
    grpc_server.stop(grace=None).wait()


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that is taken but not listened on, so that connections to it are refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> Callable[..., Any]:
    """Run a command line in this process; gives its exit code, standard output and standard error."""
    from kuueri_grpc.cli.entry import run as run_entry

    for variable in ("KUUERI_TOKEN", "KUUERI_ADDRESS", "KUUERI_SIGNING_SECRET"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KUUERI_CREDENTIALS", str(tmp_path / "credentials.json"))

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run_entry(arguments)
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call
