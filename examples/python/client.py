"""A client of Kuueri Tasks in Python: python client.py ADDRESS TARGET EMAIL."""

import random
import sys
import time
from collections.abc import Iterator

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from kuueri.tasks.v1 import (
    project_service_pb2,
    project_service_pb2_grpc,
    task_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
    timeline_pb2,
)

Metadata = tuple[tuple[str, str], ...]
DEADLINE_S = 10


def follow(
    tasks: task_service_pb2_grpc.TaskServiceStub, task_id: str, resume_token: str, metadata: Metadata
) -> Iterator[task_service_pb2.WatchResponse]:
    """Yield the messages of a watch until the task has ended; connect again where the stream breaks."""
    pause_s = 0.1
    while True:
        request = task_service_pb2.WatchRequest(task_id=task_id, resume_token=resume_token)
        try:
            # No deadline: the task decides how long this lasts.
            for message in tasks.Watch(request, metadata=metadata, wait_for_ready=True):
                resume_token, pause_s = message.resume_token, 0.1
                yield message
            return
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        time.sleep(pause_s * random.uniform(0.5, 1))
        pause_s = min(2 * pause_s, 10)


def detail(status: Status, kind: type) -> object:
    """Return the detail of that type of an error."""
    message = kind()
    return message if any(one.Unpack(message) for one in status.details) else None


def reason(error: grpc.RpcError) -> str:
    """Return the reason of a call that failed, as `TASK_NOT_FOUND`."""
    return detail(rpc_status.from_call(error), ErrorInfo).reason


def main(address: str, target: str, email: str) -> None:
    options = [("grpc.keepalive_time_ms", 30_000)]
    with grpc.insecure_channel(address, options=options) as channel:
        projects = project_service_pb2_grpc.ProjectServiceStub(channel)
        tasks = task_service_pb2_grpc.TaskServiceStub(channel)

        registered = projects.Register(
            project_service_pb2.RegisterRequest(email=email), timeout=DEADLINE_S, wait_for_ready=True
        )
        metadata = (("authorization", f"Bearer {registered.token}"),)
        print("registered")

        http_target = task_pb2.HttpTarget(url=target, body=b'{"order": 42}')
        once = task_service_pb2.SubscribeRequest(
            task=task_pb2.Task(http_target=http_target), request_id="order-42"
        )
        first = tasks.Subscribe(once, timeout=DEADLINE_S, metadata=metadata).task
        again = tasks.Subscribe(once, timeout=DEADLINE_S, metadata=metadata).task
        print("subscribed once:", str(first.task_id == again.task_id).lower())

        def name(event: timeline_pb2.TimelineEvent) -> str:
            return timeline_pb2.EventType.Name(event.type).removeprefix("EVENT_TYPE_")

        token = ""
        for message in follow(tasks, first.task_id, "", metadata):
            token = message.resume_token
            if message.HasField("event"):
                print("watched:", name(message.event))
                break
        rest = [
            name(message.event)
            for message in follow(tasks, first.task_id, token, metadata)
            if message.HasField("event")
        ]
        print("resumed:", *rest)

        batch = task_service_pb2.BatchSubscribeRequest(
            tasks=[
                task_pb2.Task(http_target=http_target),
                task_pb2.Task(http_target=task_pb2.HttpTarget(url="nowhere")),
            ]
        )
        for result in tasks.BatchSubscribe(batch, timeout=DEADLINE_S, metadata=metadata).results:
            if result.HasField("task"):
                print("batch: accepted")
            else:
                print("batch: refused", detail(result.error, BadRequest).field_violations[0].field)

        later = task_pb2.Task(http_target=http_target)
        later.schedule.delay.FromSeconds(3_600)
        waiting = tasks.Subscribe(
            task_service_pb2.SubscribeRequest(task=later), timeout=DEADLINE_S, metadata=metadata
        ).task
        canceled = tasks.Cancel(
            task_service_pb2.CancelRequest(task_id=waiting.task_id), timeout=DEADLINE_S, metadata=metadata
        ).task
        print("canceled:", task_pb2.TaskState.Name(canceled.state))

        try:
            tasks.GetTask(
                task_service_pb2.GetTaskRequest(task_id="nothing"), timeout=DEADLINE_S, metadata=metadata
            )
        except grpc.RpcError as error:
            print("unknown task:", reason(error))
        try:
            tasks.GetTask(
                task_service_pb2.GetTaskRequest(task_id="nothing"),
                timeout=DEADLINE_S,
                metadata=(("authorization", f"Bearer {registered.token}x"),),
            )
        except grpc.RpcError as error:
            print("bad token:", reason(error))


main(*sys.argv[1:])
