"""The benchmarks' task in the forms that it takes on its way through the server."""

import base64

from benchmarks.harness import workload
from kuueri_grpc.crypto.keyring import EncryptionKey, Keyring
from kuueri_grpc.domain.outcome import answered
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.domain.task import Backoff, Growth, RetryPolicy, Task, TaskSpec
from kuueri_grpc.pb import task_service_pb2
from kuueri_grpc.ports import Delivery, NewTask
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.requests import read_subscribe

URL = "https://example.com/hook"
NOW_MS = 1_700_000_000_000
LIMITS = Limits(targets=TargetPolicy(["127.0.0.0/8"]))
SIGNING_SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"
KEYRING = Keyring((EncryptionKey("bench1", bytes(32)),))
RETRY = RetryPolicy(max_retries=5, backoff=Backoff(growth=Growth.EXPONENTIAL, jitter=0.5))
SUCCESS = answered(200, latency_ms=12)
ERROR = answered(503, latency_ms=12)


def subscribe_request() -> task_service_pb2.SubscribeRequest:
    """Return the call that subscribes it."""
    return task_service_pb2.SubscribeRequest(task=workload.build_task(URL, workload.new_prefix(), 0, NOW_MS))


def spec() -> TaskSpec:
    """Return what its owner chose."""
    return new_task(subscribe_request()).spec


def new_task(request: task_service_pb2.SubscribeRequest) -> NewTask:
    """Return the task that a call subscribes."""
    new, _ = read_subscribe(request, LIMITS, NOW_MS)
    assert isinstance(new, NewTask)
    return new


def task() -> Task:
    """Return it as the store knows it after Subscribe."""
    return Task("project", spec(), TaskState.SCHEDULED, create_time_ms=NOW_MS, schedule_time_ms=NOW_MS)


def delivery(*, signed: bool) -> Delivery:
    """Return its first attempt."""
    return Delivery(
        project_id="project",
        task_id=spec().task_id,
        attempt=1,
        retry_count=0,
        retry_limit=0,
        repeat_count=0,
        repeat_limit=0,
        schedule_time_ms=NOW_MS,
        create_time_ms=NOW_MS,
        timeout_ms=300_000,
        target=spec().target,
        signing_secrets=(SIGNING_SECRET,) if signed else (),
    )
