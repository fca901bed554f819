"""The protos carry the names of the public contract, and what their comments tabulate is so.

The tables below are the contract, written out by hand: a change here is a change of the public API.
"""

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor, FileDescriptor

from kuueri_grpc import pb
from kuueri_grpc.domain.backoff import delay_ms
from kuueri_grpc.domain.task import Backoff, Growth
from scripts.gen_protos import differences, relocate

PACKAGE = "kuueri.tasks.v1"
TIMESTAMP = "google.protobuf.Timestamp"
DURATION = "google.protobuf.Duration"

TASK_ONLY = {"task": "Task"}
TASK_ID_ONLY = {"task_id": "string"}
TASK_ID_AND_VIEW = {"task_id": "string", "view": "TaskView"}

# A field in a oneof is written `type in oneof`, one with explicit presence `optional type`.
MESSAGES: dict[str, dict[str, str]] = {
    "Task": {
        "task_id": "string",
        "queue": "string",
        "http_target": "HttpTarget in target",
        "schedule": "Schedule",
        "retry_policy": "RetryPolicy",
        "repeat_policy": "RepeatPolicy",
        "attempt_timeout": DURATION,
        "labels": "map<string, string>",
        "state": "TaskState",
        "create_time": TIMESTAMP,
        "schedule_time": TIMESTAMP,
        "end_time": TIMESTAMP,
        "attempt_count": "int32",
        "retry_count": "int32",
        "repeat_count": "int32",
        "last_attempt": "Attempt",
        "view": "TaskView",
    },
    "HttpTarget": {
        "url": "string",
        "http_method": "HttpMethod",
        "headers": "map<string, string>",
        "query_params": "map<string, string>",
        "body": "bytes",
        "follow_redirects": "bool",
        "body_size": "int64",
        "header_names": "repeated string",
        "query_param_names": "repeated string",
        "url_query_hidden": "bool",
    },
    "Schedule": {
        "at": f"{TIMESTAMP} in start",
        "delay": f"{DURATION} in start",
        "start_deadline": DURATION,
    },
    "Backoff": {
        "interval": DURATION,
        "growth": "Growth",
        "max_interval": DURATION,
        "jitter": "double",
    },
    "RetryPolicy": {
        "max_retries": "int32",
        "backoff": "Backoff in wait",
        "retry_at": f"{TIMESTAMP} in wait",
        "max_duration": DURATION,
        "retryable_status_codes": "repeated int32",
    },
    "RepeatPolicy": {
        "max_repeats": "int32",
        "backoff": "Backoff in wait",
        "repeat_at": f"{TIMESTAMP} in wait",
    },
    "Attempt": {
        "attempt": "int32",
        "dispatch_time": TIMESTAMP,
        "status_code": "optional int32",
        "latency": DURATION,
        "reason": "Reason",
    },
    "TimelineGap": {"first_sequence": "int64", "last_sequence": "int64"},
    "TimelineEvent": {
        "sequence": "int64",
        "task_id": "string",
        "create_time": TIMESTAMP,
        "type": "EventType",
        "description": "string",
        "attempt": "int32",
        "status_code": "optional int32",
        "latency": DURATION,
        "reason": "Reason",
        "next_time": TIMESTAMP,
    },
    "SubscribeRequest": {"task": "Task", "request_id": "string", "view": "TaskView"},
    "SubscribeResponse": TASK_ONLY,
    "BatchSubscribeRequest": {
        "tasks": "repeated Task",
        "request_id": "string",
        "view": "TaskView",
        "requests": "repeated SubscribeRequest",
    },
    "BatchSubscribeResponse": {"results": "repeated BatchSubscribeResult"},
    "BatchSubscribeResult": {"task": "Task in result", "error": "google.rpc.Status in result"},
    "GetTaskRequest": TASK_ID_AND_VIEW,
    "GetTaskResponse": TASK_ONLY,
    "ListTasksRequest": {
        "page_size": "int32",
        "page_token": "string",
        "state": "TaskState",
        "queue": "string",
        "labels": "map<string, string>",
        "view": "TaskView",
    },
    "ListTasksResponse": {
        "tasks": "repeated Task",
        "next_page_token": "string",
        "unreadable_tasks": "repeated UnreadableTask",
    },
    "UnreadableTask": {"task_id": "string", "error": "google.rpc.Status"},
    "CancelRequest": TASK_ID_AND_VIEW,
    "CancelResponse": TASK_ONLY,
    "PauseRequest": TASK_ID_AND_VIEW,
    "PauseResponse": TASK_ONLY,
    "ResumeRequest": TASK_ID_AND_VIEW,
    "ResumeResponse": TASK_ONLY,
    "PurgeRequest": TASK_ID_ONLY,
    "PurgeResponse": {},
    "RunTaskRequest": {**TASK_ID_AND_VIEW, "request_id": "string"},
    "RunTaskResponse": TASK_ONLY,
    "GetTimelineRequest": {"task_id": "string", "page_size": "int32", "page_token": "string"},
    "GetTimelineResponse": {
        "events": "repeated TimelineEvent",
        "next_page_token": "string",
        "first_sequence": "int64",
        "gap": "TimelineGap",
    },
    "WatchRequest": {
        "task_id": "string in scope",
        "queue": "string in scope",
        "all": "bool in scope",
        "resume_token": "string",
        "view": "TaskView",
    },
    "WatchResponse": {
        "snapshot": "Task in message",
        "event": "TimelineEvent in message",
        "synced": "Synced in message",
        "heartbeat": "Heartbeat in message",
        "gap": "TimelineGap in message",
        "resume_token": "string",
    },
    "Project": {
        "project_id": "string",
        "email": "string",
        "create_time": TIMESTAMP,
        "task_in_queue": "int32",
        "task_in_queue_limit": "int32",
    },
    "AccessToken": {
        "key_id": "string",
        "scope": "TokenScope",
        "display_name": "string",
        "create_time": TIMESTAMP,
        "expire_time": TIMESTAMP,
    },
    "RotateTokenRequest": {"grace": DURATION, "request_id": "string"},
    "RotateTokenResponse": {"token": "string", "old_token_expire_time": TIMESTAMP},
    "CreateTokenRequest": {
        "scope": "TokenScope",
        "display_name": "string",
        "ttl": DURATION,
        "project_id": "string",
    },
    "DeleteProjectRequest": {"project_id": "string"},
    "ListProjectsRequest": {"page_size": "int32", "page_token": "string", "email": "string"},
    "ListProjectsResponse": {"projects": "repeated Project", "next_page_token": "string"},
    "GetServerInfoRequest": {},
    "GetServerInfoResponse": {"server_info": "ServerInfo"},
    "ServerInfo": {
        "version": "string",
        "store": "StoreInfo",
        "limits": "ServerLimits",
        "features": "repeated string",
    },
    "StoreInfo": {"kind": "StoreKind", "product": "string", "version": "string"},
    "ServerLimits": {
        "max_body_bytes": "int64",
        "max_message_bytes": "int64",
        "max_batch_tasks": "int32",
        "task_in_queue_limit": "int32",
        "max_calls": "int32",
        "call_period": DURATION,
        "max_watches": "int32",
        "history": DURATION,
    },
    "CreateTokenResponse": {"access_token": "AccessToken", "token": "string"},
    "ListTokensRequest": {},
    "ListTokensResponse": {"access_tokens": "repeated AccessToken"},
    "RevokeTokenRequest": {"key_id": "string"},
    "RevokeTokenResponse": {},
    "SetProjectLimitsRequest": {"project_id": "string", "task_in_queue_limit": "optional int32"},
    "SetProjectLimitsResponse": {"project": "Project"},
    "RegisterRequest": {"email": "string", "request_id": "string"},
    "RegisterResponse": {"project": "Project", "token": "string", "signing_secret": "string"},
}

# Without the prefix, from number 1 on.
ENUMS: dict[str, str] = {
    "HttpMethod": "GET HEAD POST PUT PATCH DELETE",
    "Growth": "CONSTANT LINEAR EXPONENTIAL",
    "TokenScope": "FULL SUBSCRIBE READ",
    "StoreKind": "EMBEDDED EXTERNAL CLUSTER",
    "TaskView": "MINIMAL BASIC FULL",
    "TaskState": "SCHEDULED DISPATCHING RETRYING REPEATING PAUSED COMPLETED CANCELED FAILED EXPIRED",
    "EventType": (
        "SUBSCRIBED DISPATCHED SUCCEEDED ERRORED RETRY_SCHEDULED REPEAT_SCHEDULED PAUSED RESUMED RECOVERED "
        "COMPLETED FAILED CANCELED EXPIRED"
    ),
}

SERVICES: dict[str, str] = {
    "TaskService": (
        "Subscribe BatchSubscribe GetTask ListTasks Cancel Pause Resume Purge RunTask GetTimeline Watch"
    ),
    "ProjectService": (
        "Register GetProject RotateToken CreateToken ListTokens RevokeToken RotateSigningSecret "
        "DeleteProject SetProjectLimits ListProjects"
    ),
    "ServerService": "GetServerInfo",
}

OUTPUT_ONLY_OF_TASK = {
    *("state", "create_time", "schedule_time", "end_time"),
    *("attempt_count", "retry_count", "repeat_count", "last_attempt"),
    "view",
}

SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_DOUBLE: "double",
}


def _modules() -> list[ModuleType]:
    names = [module.name for module in pkgutil.iter_modules(pb.__path__) if module.name.endswith("_pb2")]
    return [importlib.import_module(f"{pb.__name__}.{name}") for name in names]


FILES: list[FileDescriptor] = [module.DESCRIPTOR for module in _modules()]
DECLARED_MESSAGES = {name: message for file in FILES for name, message in file.message_types_by_name.items()}
DECLARED_ENUMS: dict[str, EnumDescriptor] = {
    name: enum for file in FILES for name, enum in file.enum_types_by_name.items()
}
DECLARED_SERVICES = {name: service for file in FILES for name, service in file.services_by_name.items()}


def _type(field: FieldDescriptor) -> str:
    """The type of a field as a .proto file spells it, without our own package."""
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return f"map<{_type(entry.fields_by_name['key'])}, {_type(entry.fields_by_name['value'])}>"
    declared = entry or field.enum_type
    name = declared.full_name.removeprefix(f"{PACKAGE}.") if declared else SCALARS[field.type]
    if field.is_repeated:
        return f"repeated {name}"
    if field.containing_oneof is None:
        return name
    # protoc wraps an `optional` field in a oneof of its own, named `_field`.
    oneof = field.containing_oneof.name
    return f"optional {name}" if oneof == f"_{field.name}" else f"{name} in {oneof}"


def test_there_are_protos() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_is_registered_under_the_path_of_its_package(file: FileDescriptor) -> None:
    # Server reflection looks files up by this name.
    assert file.package == PACKAGE
    assert Path(file.name).parent.as_posix() == PACKAGE.replace(".", "/")


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_the_fields_of_the_contract(name: str) -> None:
    assert {field.name: _type(field) for field in DECLARED_MESSAGES[name].fields} == MESSAGES[name]


@pytest.mark.parametrize("name", ENUMS)
def test_an_enum_has_the_values_of_the_contract(name: str) -> None:
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper()
    wanted = [f"{prefix}_{value}" for value in ("UNSPECIFIED", *ENUMS[name].split())]
    assert {value.name: value.number for value in DECLARED_ENUMS[name].values} == {
        value: number for number, value in enumerate(wanted)
    }


@pytest.mark.parametrize("name", DECLARED_ENUMS)
def test_zero_is_unspecified(name: str) -> None:
    assert DECLARED_ENUMS[name].values_by_number[0].name.endswith("_UNSPECIFIED")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_the_methods_of_the_contract(name: str) -> None:
    methods = DECLARED_SERVICES[name].methods
    assert [method.name for method in methods] == SERVICES[name].split()
    for method in methods:
        assert method.input_type.full_name == f"{PACKAGE}.{method.name}Request"
        assert method.output_type.full_name == f"{PACKAGE}.{method.name}Response"
        assert not method.client_streaming
        assert method.server_streaming == (method.name == "Watch")


def test_what_the_server_sets_on_a_task_is_marked_output_only() -> None:
    # In text form, because the generated code of googleapis comes without types.
    marked = {
        field.name
        for field in DECLARED_MESSAGES["Task"].fields
        if "[google.api.field_behavior]: OUTPUT_ONLY" in str(field.GetOptions())
    }
    assert marked == OUTPUT_ONLY_OF_TASK


def test_the_delays_in_the_comment_of_growth_are_those_of_the_domain() -> None:
    proto = Path(__file__).parents[2] / "protos/kuueri/tasks/v1/task.proto"
    rows = re.findall(
        r"^// +(CONSTANT|LINEAR|EXPONENTIAL)\b.*?((?: +\d+){6})$",
        proto.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    written = [(Growth(growth), [int(delay) for delay in delays.split()]) for growth, delays in rows]

    def computed(growth: Growth, max_interval_ms: int | None) -> tuple[Growth, list[int]]:
        backoff = Backoff(interval_ms=1_000, growth=growth, max_interval_ms=max_interval_ms)
        return growth, [delay_ms(backoff, n, draw=0.0) // 1_000 for n in range(1, 7)]

    assert written == [computed(growth, cap) for cap in (None, 10_000) for growth in Growth]


def test_generated_code_is_relocated_in_imports_and_nowhere_else() -> None:
    assert relocate("from kuueri.tasks.v1 import task_pb2 as x") == "from kuueri_grpc.pb import task_pb2 as x"
    assert relocate("Build(D, 'kuueri.tasks.v1.task_pb2', g)") == "Build(D, 'kuueri_grpc.pb.task_pb2', g)"
    assert relocate("code in kuueri/tasks/v1/a_pb2_grpc.py") == "code in kuueri_grpc/pb/a_pb2_grpc.py"
    for kept in ("'/kuueri.tasks.v1.TaskService/Watch'", "source: kuueri/tasks/v1/task.proto"):
        assert relocate(kept) == kept


def test_a_difference_of_the_generated_code_names_the_file_and_the_lines() -> None:
    same = {"a_pb2.py": "x\n", "__init__.py": ""}
    assert differences(same, dict(same)) == []
    assert differences(
        {"gone_pb2.py": "", "a_pb2.py": "x\ny\n"}, {"new_pb2.py": "", "a_pb2.py": "x\nz\n"}
    ) == [
        "differs  a_pb2.py (+1 -1 lines)",
        "    -y",
        "    +z",
        "stale    gone_pb2.py (no proto gives it)",
        "missing  new_pb2.py",
    ]
