"""Requests other than the task itself: ids, batches, filters, pages, e-mail addresses, grace times."""

import pytest
from google.protobuf.duration_pb2 import Duration

from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.pb import project_service_pb2, task_pb2
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.ports import NewTask, TaskFilter
from kuueri_grpc.service import project_requests, requests
from kuueri_grpc.service.fingerprint import fingerprint
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.times import DAY_MS, to_duration, to_timestamp
from kuueri_grpc.service.views import BASIC, FULL, MINIMAL
from kuueri_grpc.service.violations import InvalidFields, Violation

NOW_MS = 1_700_000_000_000
LIMITS = Limits()
ID_EXPECTED = "expected 1 to 128 characters of [A-Za-z0-9_-]"


def good_task(**fields: str) -> task_pb2.Task:
    return task_pb2.Task(http_target=task_pb2.HttpTarget(url="https://example.com/"), **fields)  # type: ignore[arg-type]


class TestSubscribe:
    def read(self, request: pb.SubscribeRequest) -> NewTask:
        item, _ = requests.read_subscribe(request, LIMITS, NOW_MS)
        if isinstance(item, InvalidFields):
            raise item
        assert isinstance(item, NewTask)
        return item

    def test_a_call_without_request_id_has_no_fingerprint(self) -> None:
        new = self.read(pb.SubscribeRequest(task=good_task(task_id="a")))
        assert (new.spec.task_id, new.request_id, new.fingerprint) == ("a", "", "")

    def test_a_request_id_comes_with_the_fingerprint_of_the_task(self) -> None:
        request = pb.SubscribeRequest(task=good_task(), request_id="r-1")
        new = self.read(request)
        assert (new.request_id, new.place) == ("r-1", None)
        assert new.fingerprint == fingerprint(new.spec)

    def test_refuses_a_request_without_task(self) -> None:
        with pytest.raises(InvalidFields, match=r"^task is required; expected the task to subscribe$"):
            self.read(pb.SubscribeRequest())

    def test_refuses_a_request_id_together_with_what_is_wrong_with_the_task(self) -> None:
        with pytest.raises(InvalidFields) as caught:
            self.read(pb.SubscribeRequest(task=task_pb2.Task(), request_id="a b"))
        assert caught.value.violations == (
            Violation("task.http_target", "is required; expected the HTTP request to make"),
            Violation("request_id", f"is 'a b'; {ID_EXPECTED}"),
        )

    def test_reads_the_view(self) -> None:
        for asked, given in [(0, BASIC), (1, MINIMAL), (2, BASIC), (3, FULL)]:
            request = pb.SubscribeRequest(task=good_task(), view=asked)  # type: ignore[arg-type]
            assert requests.read_subscribe(request, LIMITS, NOW_MS)[1] == given

    def test_refuses_a_view_of_another_version(self) -> None:
        request = pb.SubscribeRequest(task=good_task(), view=9)  # type: ignore[arg-type]
        with pytest.raises(
            InvalidFields, match=r"^view is 9, which is no TaskView; expected one of MINIMAL, "
        ):
            self.read(request)


class TestUntimely:
    """What may have been accepted before is told from what cannot have been."""

    def read(self, task: task_pb2.Task, request_id: str = "r-1", limits: Limits = LIMITS) -> requests.Item:
        return requests.read_subscribe(pb.SubscribeRequest(task=task, request_id=request_id), limits, NOW_MS)[
            0
        ]

    def passing(self) -> list[tuple[task_pb2.Task, Limits]]:
        past, soon = to_timestamp(NOW_MS - 5_000), to_timestamp(NOW_MS + 1)
        retry_at, repeat_at, late, far = good_task(), good_task(), good_task(), good_task()
        retry_at.retry_policy.retry_at.CopyFrom(past)
        repeat_at.repeat_policy.repeat_at.CopyFrom(past)
        late.schedule.at.CopyFrom(past)
        late.schedule.start_deadline.CopyFrom(to_duration(1_000))
        far.schedule.at.CopyFrom(to_timestamp(NOW_MS + 20 * 365 * DAY_MS))
        far_retry = good_task()
        far_retry.schedule.at.CopyFrom(soon)
        far_retry.retry_policy.retry_at.CopyFrom(to_timestamp(NOW_MS + 20 * 365 * DAY_MS))
        sized, denied = good_task(), good_task()
        sized.http_target.body = b"12"
        sized.http_target.headers["x-a"] = "b"
        sized.http_target.query_params["q"] = "1"
        return [
            *((task, LIMITS) for task in (retry_at, repeat_at, late, far, far_retry)),
            (sized, Limits(max_body_bytes=1)),
            (sized, Limits(max_header_bytes=1)),
            (sized, Limits(max_url_length=21)),
            (denied, Limits(targets=TargetPolicy(deny=["example.com"]))),
        ]

    def test_times_limits_and_rules_pass(self) -> None:
        for task, limits in self.passing():
            untimely = self.read(task, limits=limits)
            assert isinstance(untimely, requests.Untimely), untimely
            assert untimely.new.fingerprint == fingerprint(untimely.new.spec)
            assert untimely.fault.count == 1

    def test_the_fingerprint_is_that_of_the_task_when_it_was_timely(self) -> None:
        task = good_task()
        task.schedule.at.CopyFrom(to_timestamp(NOW_MS))
        task.schedule.start_deadline.CopyFrom(to_duration(1_000))
        request = pb.SubscribeRequest(task=task, request_id="r-1")
        (then, _), (now, _) = (
            requests.read_subscribe(request, LIMITS, at_ms) for at_ms in (NOW_MS, NOW_MS + 5_000)
        )
        assert isinstance(then, NewTask)
        assert isinstance(now, requests.Untimely)
        assert now.new == then

    def test_without_an_id_nothing_can_have_been_before(self) -> None:
        for task, limits in self.passing():
            assert isinstance(self.read(task, "", limits), InvalidFields)

    def test_a_task_id_is_enough(self) -> None:
        for task, limits in self.passing():
            task.task_id = "a"
            untimely = self.read(task, "", limits)
            assert isinstance(untimely, requests.Untimely)
            assert (untimely.new.request_id, untimely.new.fingerprint) == ("", "")

    def test_what_is_a_fault_at_any_time_is_refused_at_once(self) -> None:
        for task, limits in self.passing():
            task.queue = "a b"
            refused = self.read(task, limits=limits)
            assert isinstance(refused, InvalidFields)
            assert refused.count == 2


class TestBatch:
    async def read(self, *tasks: task_pb2.Task, request_id: str = "") -> list[requests.Item]:
        request = pb.BatchSubscribeRequest(tasks=tasks, request_id=request_id)
        return (await requests.read_batch(request, LIMITS, NOW_MS))[0]

    async def test_reads_each_task_on_its_own(self) -> None:
        first, second, third = await self.read(
            good_task(task_id="a"), good_task(queue="a b"), good_task(task_id="c")
        )
        assert isinstance(first, NewTask)
        assert isinstance(third, NewTask)
        assert (first.spec.task_id, third.spec.task_id) == ("a", "c")
        assert isinstance(second, InvalidFields)
        assert second.violations == (Violation("tasks[1].queue", f"is 'a b'; {ID_EXPECTED}"),)

    async def test_each_task_has_its_place_under_a_request_id(self) -> None:
        tasks = good_task(), good_task(queue="a b"), good_task()
        first, bad, third = await self.read(*tasks, request_id="r-1")
        assert isinstance(first, NewTask)
        assert isinstance(third, NewTask)
        assert isinstance(bad, InvalidFields)
        assert (first.request_id, first.place, third.request_id, third.place) == ("r-1", 0, "r-1", 2)
        assert first.fingerprint == third.fingerprint == fingerprint(first.spec)

    async def test_the_default_view_is_what_the_client_does_not_know(self) -> None:
        request = pb.BatchSubscribeRequest(tasks=[good_task()])
        assert (await requests.read_batch(request, LIMITS, NOW_MS))[1] == MINIMAL

    async def test_refuses_what_is_wrong_with_the_call_as_a_whole(self) -> None:
        request = pb.BatchSubscribeRequest(request_id="a b", view=9)  # type: ignore[arg-type]
        with pytest.raises(InvalidFields) as caught:
            await requests.read_batch(request, LIMITS, NOW_MS)
        assert [fault.field for fault in caught.value.violations] == ["tasks", "request_id", "view"]

    @pytest.mark.parametrize(("count", "came"), [(0, "0"), (1_001, "1,001")])
    async def test_refuses_a_number_outside_the_limits(self, count: int, came: str) -> None:
        with pytest.raises(InvalidFields, match=f"^tasks are {came}; expected 1 to 1,000$"):
            await self.read(*[good_task()] * count)

    async def test_takes_as_many_as_the_limit_allows(self) -> None:
        assert len(await self.read(*[good_task()] * 1_000)) == 1_000


class TestManyEntries:
    """What comes in numbers is counted before it is copied, and named once."""

    @pytest.mark.parametrize("count", [65, 100_000])
    def test_labels_of_a_filter(self, count: int) -> None:
        request = pb.ListTasksRequest(labels={f"a{i}": "" for i in range(count)})
        with pytest.raises(InvalidFields, match=f"^labels are {count:,}; at most 64 are allowed$"):
            requests.read_list(request)

    def test_as_many_labels_of_a_filter_as_a_task_can_have(self) -> None:
        labels = {f"a{i}": "" for i in range(64)}
        assert requests.read_list(pb.ListTasksRequest(labels=labels)).where.labels == labels


class TestTaskId:
    def test_reads_an_id(self) -> None:
        assert requests.read_task_id("order_1-A") == "order_1-A"

    @pytest.mark.parametrize(
        ("task_id", "came"),
        [
            ("", "is required"),
            ("a/b", "is 'a/b'"),
            ("ä", "is '\\xe4'"),
            ("a" * 129, f"is '{'a' * 61}...'"),
            ("a\r\nb", "is 'a\\r\\nb'"),
        ],
    )
    def test_refuses(self, task_id: str, came: str) -> None:
        with pytest.raises(InvalidFields) as caught:
            requests.read_task_id(task_id)
        assert caught.value.violations == (Violation("task_id", f"{came}; {ID_EXPECTED}"),)


class TestList:
    def test_an_empty_request_lists_everything(self) -> None:
        assert requests.read_list(pb.ListTasksRequest()) == requests.ListQuery(TaskFilter(), 50)

    def test_reads_every_filter(self) -> None:
        request = pb.ListTasksRequest(
            page_size=7, state=task_pb2.TASK_STATE_PAUSED, queue="orders", labels={"team": "billing"}
        )
        where = TaskFilter(TaskState.PAUSED, "orders", {"team": "billing"})
        assert requests.read_list(request) == requests.ListQuery(where, 7)

    @pytest.mark.parametrize(("asked", "given"), [(0, 50), (1, 1), (1_000, 1_000), (1_001, 1_000)])
    def test_page_sizes(self, asked: int, given: int) -> None:
        assert requests.read_list(pb.ListTasksRequest(page_size=asked)).page_size == given

    def test_refuses_every_bad_field_at_once(self) -> None:
        request = pb.ListTasksRequest(page_size=-1, state=99, queue="a b", labels={"A": ""})  # type: ignore[arg-type]
        with pytest.raises(InvalidFields) as caught:
            requests.read_list(request)
        assert caught.value.violations == (
            Violation("page_size", "is -1; expected 0 (for 50) or more"),
            Violation(
                "state",
                "is 99, which is no TaskState; expected one of SCHEDULED, DISPATCHING, RETRYING, REPEATING, "
                "PAUSED, COMPLETED, CANCELED, FAILED, EXPIRED",
            ),
            Violation("queue", f"is 'a b'; {ID_EXPECTED}"),
            Violation('labels["A"]', "is no label key; expected 1 to 63 characters of [a-z0-9_.-]"),
        )


class TestTimeline:
    def test_reads_the_task_and_the_page_size(self) -> None:
        request = pb.GetTimelineRequest(task_id="a", page_size=2_000)
        assert requests.read_timeline(request) == requests.TimelineQuery("a", 1_000)

    def test_refuses_every_bad_field_at_once(self) -> None:
        with pytest.raises(InvalidFields) as caught:
            requests.read_timeline(pb.GetTimelineRequest(page_size=-5))
        assert caught.value.violations == (
            Violation("task_id", f"is required; {ID_EXPECTED}"),
            Violation("page_size", "is -5; expected 0 (for 50) or more"),
        )


class TestWatch:
    def test_reads_the_scope(self) -> None:
        assert requests.read_watch(pb.WatchRequest(task_id="a")) == requests.WatchScope(task_id="a")
        assert requests.read_watch(pb.WatchRequest(queue="orders")) == requests.WatchScope(queue="orders")
        assert requests.read_watch(pb.WatchRequest(all=True)) == requests.WatchScope()

    @pytest.mark.parametrize(
        ("request_", "violation"),
        [
            (pb.WatchRequest(), Violation("scope", "is required; expected one of task_id, queue and all")),
            (
                pb.WatchRequest(all=False),
                Violation("all", "is false; expected true, or task_id or queue instead"),
            ),
            (pb.WatchRequest(task_id=""), Violation("task_id", f"is required; {ID_EXPECTED}")),
            (pb.WatchRequest(queue="a b"), Violation("queue", f"is 'a b'; {ID_EXPECTED}")),
        ],
    )
    def test_refuses(self, request_: pb.WatchRequest, violation: Violation) -> None:
        with pytest.raises(InvalidFields) as caught:
            requests.read_watch(request_)
        assert caught.value.violations == (violation,)


class TestEmail:
    @pytest.mark.parametrize(
        "email", ["ops@example.com", "a.b+c@sub.example.co.id", "root@localhost", "ü@bücher.example"]
    )
    def test_accepts(self, email: str) -> None:
        assert project_requests.read_register(project_service_pb2.RegisterRequest(email=email)) == (email, "")

    @pytest.mark.parametrize(
        ("email", "fault"),
        [
            ("", "is required; expected an address such as ops@example.com"),
            ("ops", "is 'ops'; expected an address such as ops@example.com"),
            ("@example.com", "is '@example.com'; expected an address such as ops@example.com"),
            ("ops@", "is 'ops@'; expected an address such as ops@example.com"),
            ("a@b@c", "is 'a@b@c'; expected an address such as ops@example.com"),
            ("a b@c", "is 'a b@c'; expected an address such as ops@example.com"),
            ("a@c\r\nx: y", "is 'a@c\\r\\nx: y'; expected an address such as ops@example.com"),
            ("a@b..c", "is 'a@b..c'; expected an address such as ops@example.com"),
            ("a" * 250 + "@b.cd", "has 255 characters; at most 254 are allowed"),
        ],
    )
    def test_refuses(self, email: str, fault: str) -> None:
        with pytest.raises(InvalidFields) as caught:
            project_requests.read_register(project_service_pb2.RegisterRequest(email=email))
        assert caught.value.violations == (Violation("email", fault),)


class TestGrace:
    def test_unset_is_the_default(self) -> None:
        assert project_requests.read_grace(None, 7) == 7

    @pytest.mark.parametrize("grace_ms", [0, 1, 30 * DAY_MS])
    def test_reads(self, grace_ms: int) -> None:
        assert project_requests.read_grace(to_duration(grace_ms), 7) == grace_ms

    @pytest.mark.parametrize(
        ("grace", "fault"),
        [
            (Duration(seconds=-1), "is negative; expected 0 to 30 days"),
            (to_duration(30 * DAY_MS + 1), "is 2,592,000,001 ms; expected 0 to 30 days"),
        ],
    )
    def test_refuses(self, grace: Duration, fault: str) -> None:
        with pytest.raises(InvalidFields) as caught:
            project_requests.read_grace(grace, 7)
        assert caught.value.violations == (Violation("grace", fault),)
