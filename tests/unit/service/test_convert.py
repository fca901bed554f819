"""Answers: what was accepted comes back as it went, and what the store knows is all there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import (
    BODILESS_METHODS,
    Attempt,
    Backoff,
    Growth,
    HttpMethod,
    HttpTarget,
    RepeatPolicy,
    RetryPolicy,
    Schedule,
    Task,
    TaskSpec,
)
from kuueri_grpc.domain.timeline import EventType, Reason, TimelineEvent
from kuueri_grpc.pb import project_pb2, task_pb2, timeline_pb2
from kuueri_grpc.ports import Project
from kuueri_grpc.service.answers import to_task
from kuueri_grpc.service.convert import to_event, to_project
from kuueri_grpc.service.limits import Limits
from kuueri_grpc.service.read_task import read_task
from kuueri_grpc.service.times import to_duration, to_timestamp
from kuueri_grpc.service.views import BASIC, FULL, MINIMAL
from kuueri_grpc.service.violations import Violations

NOW_MS = 1_700_000_000_000
YEAR_MS = 365 * 86_400_000

names = st.text("abcXYZ019_-", min_size=1, max_size=128)
waits = st.integers(1, YEAR_MS)
later = st.integers(NOW_MS + YEAR_MS * 5, NOW_MS + YEAR_MS * 9)
texts = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4)
backoffs = st.builds(
    Backoff, waits, st.sampled_from(Growth), st.none() | waits, st.floats(0, 1, allow_subnormal=False)
)
schedules = st.builds(
    Schedule, at_ms=st.integers(NOW_MS, NOW_MS + YEAR_MS), start_deadline_ms=st.none() | waits
) | st.builds(Schedule, delay_ms=st.none() | st.integers(0, YEAR_MS), start_deadline_ms=st.none() | waits)
codes = st.lists(st.sampled_from([100, 199, 300, 404, 429, 503, 599]), unique=True).map(tuple)
retries = st.builds(
    RetryPolicy, st.integers(0, 1_000), backoffs, st.none(), st.none() | waits, codes
) | st.builds(RetryPolicy, st.just(1), st.just(Backoff()), later, st.none() | waits, codes)
repeats = st.builds(RepeatPolicy, st.integers(0, 1_000_000), backoffs) | st.builds(
    RepeatPolicy, st.just(1), st.just(Backoff()), later
)


@st.composite
def targets(draw: st.DrawFn) -> HttpTarget:
    method = draw(st.sampled_from(HttpMethod))
    body = b"" if method in BODILESS_METHODS else draw(st.binary(max_size=20))
    headers = draw(
        st.dictionaries(
            st.sampled_from(["accept", "x-a", "X-B"]), st.text("a \tä", max_size=5).map(str.strip)
        )
    )
    return HttpTarget(
        "https://example.com/ä?a=b", method, headers, draw(texts), body, follow_redirects=draw(st.booleans())
    )


labels = st.dictionaries(st.text("abz019_.-", min_size=1, max_size=63), st.text(max_size=9), max_size=4)
specs = st.builds(
    TaskSpec, names, targets(), names, schedules, retries, repeats, st.integers(1, 1_800_000), labels
)


@given(specs)
def test_what_a_task_asks_for_comes_back_as_it_went(spec: TaskSpec) -> None:
    answer = to_task(Task("p", spec, TaskState.SCHEDULED, NOW_MS), FULL)
    violations = Violations()
    again = read_task(
        task_pb2.Task.FromString(answer.SerializeToString()), "task", Limits(), NOW_MS, violations
    )
    violations.raise_if_any()
    assert again == spec


def test_what_was_not_asked_for_stays_unset_and_defaults_are_told() -> None:
    answer = to_task(
        Task("p", TaskSpec("a", HttpTarget("https://x.example/")), TaskState.SCHEDULED, NOW_MS), FULL
    )
    assert answer == task_pb2.Task(
        task_id="a",
        queue="default",
        http_target=task_pb2.HttpTarget(url="https://x.example/", http_method=task_pb2.HTTP_METHOD_POST),
        attempt_timeout=to_duration(300_000),
        state=task_pb2.TASK_STATE_SCHEDULED,
        create_time=to_timestamp(NOW_MS),
        view=FULL,
    )


def test_each_view_has_what_the_one_before_it_has() -> None:
    target = HttpTarget(
        "https://x.example/a?b=c", headers={"x-a": "b"}, query_params={"d": "e"}, body=b"12345"
    )
    task = Task("p", TaskSpec("a", target, labels={"team": "x"}), TaskState.SCHEDULED, NOW_MS, NOW_MS + 1)
    full, basic, minimal = (to_task(task, view) for view in (FULL, BASIC, MINIMAL))
    assert (full.view, basic.view, minimal.view) == (FULL, BASIC, MINIMAL)
    assert (full.http_target.body, full.http_target.body_size) == (b"12345", 5)
    assert (full.http_target.url, basic.http_target.url) == (target.url, "https://x.example/a")
    assert (full.http_target.url_query_hidden, basic.http_target.url_query_hidden) == (False, True)
    assert list(basic.http_target.header_names) == list(full.http_target.headers) == ["x-a"]
    assert list(basic.http_target.query_param_names) == list(full.http_target.query_params) == ["d"]
    for secret in ("body", "headers", "query_params", "url"):
        full.http_target.ClearField(secret)
    for named in ("header_names", "query_param_names", "url", "url_query_hidden"):
        basic.http_target.ClearField(named)
    full.view = BASIC
    assert basic == full
    for field in ("http_target", "attempt_timeout", "labels"):
        basic.ClearField(field)
    basic.view = MINIMAL
    assert minimal == basic


def test_what_the_store_knows_is_told() -> None:
    answer = to_task(
        Task(
            "p",
            TaskSpec("a", HttpTarget("https://x.example/")),
            TaskState.FAILED,
            create_time_ms=NOW_MS,
            schedule_time_ms=NOW_MS + 1,
            end_time_ms=NOW_MS + 2,
            attempt_count=3,
            retry_count=2,
            repeat_count=1,
            last_attempt=Attempt(3, NOW_MS + 1, 1_234, None, Reason.TIMEOUT),
        ),
        MINIMAL,
    )
    assert answer.state == task_pb2.TASK_STATE_FAILED
    assert answer.schedule_time.ToMilliseconds() == NOW_MS + 1
    assert answer.end_time.ToMilliseconds() == NOW_MS + 2
    assert (answer.attempt_count, answer.retry_count, answer.repeat_count) == (3, 2, 1)
    assert answer.last_attempt == task_pb2.Attempt(
        attempt=3,
        dispatch_time=to_timestamp(NOW_MS + 1),
        latency=to_duration(1_234),
        reason=timeline_pb2.REASON_TIMEOUT,
    )
    assert not answer.last_attempt.HasField("status_code")


@pytest.mark.parametrize("state", TaskState)
def test_every_state_has_its_twin(state: TaskState) -> None:
    answer = to_task(Task("p", TaskSpec("a", HttpTarget("")), state, NOW_MS), FULL)
    assert task_pb2.TaskState.Name(answer.state) == f"TASK_STATE_{state}"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_twin(reason: Reason) -> None:
    answer = to_event(TimelineEvent("a", 1, NOW_MS, EventType.FAILED, reason=reason))
    assert timeline_pb2.Reason.Name(answer.reason) == f"REASON_{reason}"


@pytest.mark.parametrize("kind", EventType)
def test_every_event_has_its_twin_and_a_sentence(kind: EventType) -> None:
    answer = to_event(TimelineEvent("a", 1, NOW_MS, kind, attempt=1, status_code=200))
    assert timeline_pb2.EventType.Name(answer.type) == f"EVENT_TYPE_{kind}"
    assert answer.description


def test_an_event_tells_all_that_is_known_of_it() -> None:
    event = TimelineEvent("a", 4, NOW_MS, EventType.ERRORED, 2, 503, 17, Reason.HTTP_STATUS, NOW_MS + 9)
    assert to_event(event) == timeline_pb2.TimelineEvent(
        sequence=4,
        task_id="a",
        create_time=to_timestamp(NOW_MS),
        type=timeline_pb2.EVENT_TYPE_ERRORED,
        description="Attempt 2 failed: the target answered with status 503",
        attempt=2,
        status_code=503,
        latency=to_duration(17),
        reason=timeline_pb2.REASON_HTTP_STATUS,
        next_time=to_timestamp(NOW_MS + 9),
    )


def test_an_event_leaves_unset_what_it_does_not_know() -> None:
    answer = to_event(TimelineEvent("a", 1, NOW_MS, EventType.PAUSED))
    for field in ("status_code", "latency", "next_time"):
        assert not answer.HasField(field)
    assert answer.reason == timeline_pb2.REASON_UNSPECIFIED


def test_a_project_is_told() -> None:
    assert to_project(Project("p-1", "ops@example.com", NOW_MS, 3, 1_000)) == project_pb2.Project(
        project_id="p-1",
        email="ops@example.com",
        create_time=to_timestamp(NOW_MS),
        task_in_queue=3,
        task_in_queue_limit=1_000,
    )
