"""A call that comes again is answered as the first one, whatever time, limits and rules are by then."""

from collections.abc import Callable

import grpc
import pytest
from redis import Redis

from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.times import to_duration, to_timestamp
from kuueri_grpc.store.clock import StoreClock
from tests.service.edge import Caller, Edge, serving
from tests.service.statuses import refusal, unpacked

HOUR_MS = 3_600_000
Change = Callable[[task_pb2.Task, int], None]


def task(task_id: str = "") -> task_pb2.Task:
    """A task that is due in an hour."""
    made = task_pb2.Task(task_id=task_id)
    made.http_target.url = "https://example.com/hook"
    made.http_target.body = b"{}"
    made.http_target.headers["x-a"] = "b"
    made.schedule.delay.CopyFrom(to_duration(HOUR_MS))
    return made


def retried_at(made: task_pb2.Task, now_ms: int) -> None:
    made.schedule.ClearField("delay")
    made.retry_policy.retry_at.CopyFrom(to_timestamp(now_ms + 3_000))


def repeated_at(made: task_pb2.Task, now_ms: int) -> None:
    made.schedule.ClearField("delay")
    made.repeat_policy.repeat_at.CopyFrom(to_timestamp(now_ms + 3_000))


def started_by(made: task_pb2.Task, now_ms: int) -> None:
    made.schedule.at.CopyFrom(to_timestamp(now_ms))
    made.schedule.start_deadline.CopyFrom(to_duration(3_000))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Set the clock of the server five seconds on."""
    now_ms = StoreClock.now_ms

    def shift() -> None:
        monkeypatch.setattr(StoreClock, "now_ms", lambda clock: now_ms(clock) + 5_000)

    return shift


async def subscribe(edge: Edge, owner: Caller, made: task_pb2.Task, request_id: str = "") -> task_pb2.Task:
    request = pb.SubscribeRequest(task=made, request_id=request_id)
    return (await edge.tasks.Subscribe(request, metadata=owner.metadata)).task


async def batch(
    edge: Edge, owner: Caller, *tasks: task_pb2.Task, request_id: str = "r"
) -> list[pb.BatchSubscribeResult]:
    request = pb.BatchSubscribeRequest(tasks=tasks, request_id=request_id)
    return list((await edge.tasks.BatchSubscribe(request, metadata=owner.metadata)).results)


def reasons(results: list[pb.BatchSubscribeResult]) -> list[str]:
    """Of each error; empty for a task."""
    return [
        unpacked(result.error)["ErrorInfo"].reason if result.HasField("error") else ""  # type: ignore[attr-defined]
        for result in results
    ]


@pytest.mark.parametrize("change", [retried_at, repeated_at, started_by])
class TestTime:
    """An instant in the task has passed meanwhile."""

    async def test_the_task_is_answered(
        self, edge: Edge, owner: Caller, later: Callable[[], None], change: Change
    ) -> None:
        made = task()
        change(made, edge.engine.clock.now_ms())
        first = await subscribe(edge, owner, made, "r")
        later()
        assert await subscribe(edge, owner, made, "r") == first
        # A new one would be refused.
        refused = await refusal(
            edge.tasks.Subscribe(pb.SubscribeRequest(task=made, request_id="new"), metadata=owner.metadata)
        )
        assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")

    async def test_a_batch_is_answered(
        self, edge: Edge, owner: Caller, later: Callable[[], None], change: Change
    ) -> None:
        made = task()
        change(made, edge.engine.clock.now_ms())
        first = await batch(edge, owner, made, task(), made)
        later()
        assert await batch(edge, owner, made, task(), made) == first
        assert reasons(await batch(edge, owner, made, task(), request_id="new")) == ["INVALID_FIELD", ""]

    async def test_a_task_id_in_use_is_told(
        self, edge: Edge, owner: Caller, later: Callable[[], None], change: Change
    ) -> None:
        made = task("a")
        change(made, edge.engine.clock.now_ms())
        await subscribe(edge, owner, made)
        later()
        refused = await refusal(edge.tasks.Subscribe(pb.SubscribeRequest(task=made), metadata=owner.metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "TASK_EXISTS")
        assert reasons(await batch(edge, owner, made, task("b"), request_id="")) == ["TASK_EXISTS", ""]

    async def test_another_task_under_the_id_is_still_another(
        self, edge: Edge, owner: Caller, later: Callable[[], None], change: Change
    ) -> None:
        made = task()
        change(made, edge.engine.clock.now_ms())
        await subscribe(edge, owner, made, "r")
        later()
        made.queue = "other"
        refused = await refusal(
            edge.tasks.Subscribe(pb.SubscribeRequest(task=made, request_id="r"), metadata=owner.metadata)
        )
        assert refused.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_body_bytes=1),
        Limits(max_header_bytes=1),
        Limits(max_url_length=20),
        Limits(targets=TargetPolicy(deny=["example.com"])),
    ],
    ids=["body", "headers", "url", "target"],
)
async def test_limits_and_rules_are_for_what_is_new(
    edge: Edge, owner: Caller, store_url: str, limits: Limits
) -> None:
    first, results = await subscribe(edge, owner, task("a"), "r"), await batch(edge, owner, task(), task())
    async with serving(store_url, limits) as stricter:
        assert await subscribe(stricter, owner, task("a"), "r") == first
        assert await batch(stricter, owner, task(), task()) == results
        for request_id, reason in (("new", "TASK_EXISTS"), ("", "TASK_EXISTS")):
            request = pb.SubscribeRequest(task=task("a"), request_id=request_id)
            assert (
                await refusal(stricter.tasks.Subscribe(request, metadata=owner.metadata))
            ).reason == reason
        assert reasons(await batch(stricter, owner, task(), request_id="new")) == ["INVALID_FIELD"]


async def test_a_full_project_answers_what_it_has(edge: Edge, owner: Caller, store_url: str) -> None:
    first, results = await subscribe(edge, owner, task(), "r"), await batch(edge, owner, task(), task())
    async with serving(store_url, queue_limit=1) as full:
        assert await subscribe(full, owner, task(), "r") == first
        assert await batch(full, owner, task(), task()) == results
        assert reasons(await batch(full, owner, task(), task(), task()))[2] == "QUOTA_TASKS_IN_QUEUE"


async def test_a_purged_task_is_told_and_not_made_again(edge: Edge, owner: Caller) -> None:
    made, (in_batch, _) = await subscribe(edge, owner, task(), "r"), await batch(edge, owner, task(), task())
    for task_id in (made.task_id, in_batch.task.task_id):
        await edge.tasks.Cancel(pb.CancelRequest(task_id=task_id), metadata=owner.metadata)
        await edge.tasks.Purge(pb.PurgeRequest(task_id=task_id), metadata=owner.metadata)
    request = pb.SubscribeRequest(task=task(), request_id="r")
    refused = await refusal(edge.tasks.Subscribe(request, metadata=owner.metadata))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_PURGED")
    assert refused.details["ErrorInfo"].metadata == {"request_id": "r", "task_id": made.task_id}
    assert refused.details["ResourceInfo"].resource_name == made.task_id
    assert reasons(await batch(edge, owner, task(), task())) == ["TASK_PURGED", ""]
    listed = await edge.tasks.ListTasks(pb.ListTasksRequest(), metadata=owner.metadata)
    assert len(listed.tasks) == 1


async def test_defaults_that_are_written_out_are_the_same_task(edge: Edge, owner: Caller) -> None:
    first = await subscribe(edge, owner, task(), "r")
    written = task()
    written.queue = "default"
    written.http_target.http_method = task_pb2.HTTP_METHOD_POST
    written.attempt_timeout.FromSeconds(300)
    written.retry_policy.SetInParent()
    assert await subscribe(edge, owner, written, "r") == first


@pytest.mark.one_server
class TestPartOfABatch:
    """The store cannot carry out the script for one task: its record is damaged."""

    @pytest.fixture
    def damage(self, owner: Caller, store_url: str) -> "Callable[[str], Callable[[], None]]":
        def damage(task_id: str) -> Callable[[], None]:
            with Redis.from_url(store_url, db=1) as client:
                (index,) = client.keys(f"*:index:{owner.project_id}")
                key = index.replace(b":index:", b":task:") + b"/" + task_id.encode()
                client.set(key, "x")

            def repair() -> None:
                with Redis.from_url(store_url, db=1) as client:
                    client.delete(key)

            return repair

        return damage

    async def test_only_its_own_result_is_not_known(
        self, edge: Edge, owner: Caller, damage: Callable[[str], Callable[[], None]]
    ) -> None:
        await subscribe(edge, owner, task("first"))
        repair = damage("t-7")
        tasks = [task(f"t-{i}") for i in range(250)]
        results = await batch(edge, owner, *tasks)
        assert [i for i, reason in enumerate(reasons(results)) if reason] == [7]
        assert results[7].error.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert "RetryInfo" in unpacked(results[7].error)
        repair()
        again = await batch(edge, owner, *tasks)
        assert not any(reasons(again))
        assert [*again[:7], *again[8:]] == [*results[:7], *results[8:]]

    async def test_where_nothing_is_known_to_be_accepted_the_call_fails(
        self, edge: Edge, owner: Caller, damage: Callable[[str], Callable[[], None]]
    ) -> None:
        await subscribe(edge, owner, task("first"))
        damage("a")
        invalid = task()
        invalid.queue = "a b"
        request = pb.BatchSubscribeRequest(tasks=[task("a"), invalid, task("first")])
        refused = await refusal(edge.tasks.BatchSubscribe(request, metadata=owner.metadata))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
