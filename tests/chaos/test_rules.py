"""Each rule finds what it is there for, in a history that is right but for one thing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from kuueri_grpc.pb import task_pb2, timeline_pb2
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import after, duration, repeats, retries, timestamp
from tests.acceptance.watcher import watched
from tests.chaos import rules
from tests.chaos.ledger import Call, Entry
from tests.chaos.pulse import Pulse
from tests.chaos.rules import RULES, Case, Rule
from tests.chaos.target import Arrival, digest

START_MS = 1_000_000
SLACK_MS = 10


def event(name: str, attempt: int = 0, reason: str = "", status: int = 0, due: int = 0) -> TimelineEvent:
    """An event; numbers and times are given by `history`."""
    made = TimelineEvent(
        type=timeline_pb2.EventType.Value(f"EVENT_TYPE_{name}"),
        attempt=attempt,
        reason=timeline_pb2.Reason.Value(f"REASON_{reason or 'UNSPECIFIED'}"),
    )
    if status:
        made.status_code = status
    if due:
        made.next_time.CopyFrom(timestamp(START_MS + due))
    return made


def history(*events: TimelineEvent) -> list[TimelineEvent]:
    """Number events, and let 100 ms pass between them, from 0 on."""
    for number, made in enumerate(events):
        made.sequence = number + 1
        made.create_time.CopyFrom(timestamp(START_MS + 100 * number))
    return list(events)


def arrival(attempt: int, at: int, status: int = 200, run: int = 0, retry: int = 0) -> Arrival:
    headers = {"webhook-id": f"task_{run}"}
    headers |= {"x-kuueri-tasks-retry-count": str(retry)} if retry else {}
    headers |= {"x-kuueri-tasks-repeat-count": str(run)} if run else {}
    return Arrival(attempt, START_MS + at, "POST", digest(b"body"), headers, status)


def call(action: str, at: int, state: str | None = None, attempts: int = 0, refused: bool = False) -> Call:
    """A call that was answered 10 ms later; one without a `state` that is not refused had no answer."""
    answer = task_pb2.Task(attempt_count=attempts)
    if state is None:
        return Call(action, START_MS + at, START_MS + at + 10 if refused else None, refused)
    answer.state = task_pb2.TaskState.Value(f"TASK_STATE_{state}")
    return Call(action, START_MS + at, START_MS + at + 10, False, answer)


def case(
    events: Sequence[TimelineEvent],
    arrivals: Sequence[Arrival],
    *calls: Call,
    counts: tuple[int, int, int] | None = None,
    **fields: object,
) -> Case:
    """A task with two retries and one repetition, as GetTask finds it where there are `counts`."""
    target = task_pb2.HttpTarget(http_method=task_pb2.HTTP_METHOD_POST, body=b"body")
    task = task_pb2.Task(
        task_id="task",
        http_target=target,
        schedule=after(50),
        retry_policy=retries(2, 50),
        repeat_policy=repeats(1, 50),
    )
    for name, value in fields.items():
        getattr(task, name).CopyFrom(value)
    entry = Entry(task, acknowledged=True, calls=list(calls))
    found = None
    if counts is not None:
        ending = timeline_pb2.EventType.Name(events[-1].type).removeprefix("EVENT_TYPE_")
        state = task_pb2.TaskState.Value(f"TASK_STATE_{ending}")
        attempts, retried, repeated = counts
        found = task_pb2.Task(state=state, attempt_count=attempts, retry_count=retried, repeat_count=repeated)
    return Case(entry, found, events, arrivals, lambda _: SLACK_MS)


def lively() -> Case:
    """Attempt 1 is lost and delivered again, attempt 2 is a retry, attempt 3 a repetition: COMPLETED."""
    events = history(
        event("SUBSCRIBED", due=50),
        event("DISPATCHED", 1),
        event("RECOVERED", 1, "LEASE_LOST", due=200),
        event("DISPATCHED", 1),
        event("ERRORED", 1, "HTTP_STATUS", 500),
        event("RETRY_SCHEDULED", 1, due=550),
        event("DISPATCHED", 2),
        event("SUCCEEDED", 2, status=200),
        event("REPEAT_SCHEDULED", 2, due=850),
        event("DISPATCHED", 3),
        event("SUCCEEDED", 3, status=200),
        event("COMPLETED", 3),
    )
    arrivals = [
        arrival(1, 110, 500),
        arrival(1, 310, 500),
        arrival(2, 610, retry=1),
        arrival(3, 910, run=1),
    ]
    return case(events, arrivals, counts=(3, 0, 1))


def failed() -> Case:
    """All three attempts fail."""
    events = history(
        event("SUBSCRIBED", due=50),
        event("DISPATCHED", 1),
        event("ERRORED", 1, "HTTP_STATUS", 500),
        event("RETRY_SCHEDULED", 1, due=350),
        event("DISPATCHED", 2),
        event("ERRORED", 2, "HTTP_STATUS", 500),
        event("RETRY_SCHEDULED", 2, due=650),
        event("DISPATCHED", 3),
        event("ERRORED", 3, "HTTP_STATUS", 500),
        event("FAILED", 3, "RETRIES_EXHAUSTED"),
    )
    arrivals = [arrival(1, 110, 500), arrival(2, 410, 500, retry=1), arrival(3, 710, 500, retry=2)]
    return case(events, arrivals, counts=(3, 2, 0))


def cancelled() -> Case:
    """Paused and resumed, run at once, and canceled while the attempt is in flight."""
    events = history(
        event("SUBSCRIBED", due=5_000),
        event("PAUSED", reason="BY_REQUEST"),
        event("RESUMED", reason="BY_REQUEST", due=5_000),
        event("DISPATCHED", 1, "RUN_NOW"),
        event("CANCELED", 1, "BY_REQUEST"),
    )
    calls = (
        call("pause", 95, "PAUSED"),
        call("resume", 195, "SCHEDULED"),
        call("run", 295, "SCHEDULED"),
        call("cancel", 395, "CANCELED"),
    )
    return case(events, [arrival(1, 310)], *calls, counts=(1, 0, 0), schedule=after(5_000))


def poison() -> Case:
    """An attempt takes its worker down five times."""
    lost = [event("DISPATCHED", 1), event("RECOVERED", 1, "LEASE_LOST")]
    again = [
        made for _ in range(4) for made in (TimelineEvent.FromString(e.SerializeToString()) for e in lost)
    ]
    events = history(
        event("SUBSCRIBED", due=50), *again, event("DISPATCHED", 1), event("FAILED", 1, "POISON")
    )
    return case(events, [], counts=(1, 0, 0))


RIGHT: dict[str, Callable[[], Case]] = {
    "lively": lively,
    "failed": failed,
    "cancelled": cancelled,
    "poison": poison,
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes_every_rule(name: str) -> None:
    told = RIGHT[name]()
    assert [fault for rule in RULES for fault in rule(told)] == []


def without(told: Case, place: int) -> Case:
    """Leave out an event as if it had never been."""
    events = [made for number, made in enumerate(told.events) if number != place]
    return replace(told, events=history(*events))


def with_event(told: Case, place: int, **fields: object) -> Case:
    """Change an event."""
    changed = TimelineEvent.FromString(told.events[place].SerializeToString())
    for name, value in fields.items():
        setattr(changed, name, value)
    return replace(told, events=[*told.events[:place], changed, *told.events[place + 1 :]])


def with_arrivals(told: Case, *arrivals: Arrival) -> Case:
    return replace(told, arrivals=[*told.arrivals, *arrivals])


def without_arrivals(told: Case) -> Case:
    return replace(told, arrivals=[])


def changed(told: Case, **fields: object) -> Case:
    """Change what came with the last arrival."""
    return replace(told, arrivals=[*told.arrivals[:-1], replace(told.arrivals[-1], **fields)])  # type: ignore[arg-type]


def with_calls(told: Case, *calls: Call) -> Case:
    return replace(told, entry=replace(told.entry, calls=list(calls)))


def with_task(told: Case, **fields: object) -> Case:
    """Let another task have had this history."""
    task = task_pb2.Task.FromString(told.task.SerializeToString())
    for name, value in fields.items():
        getattr(task, name).CopyFrom(value)
    return replace(told, entry=replace(told.entry, task=task))


def lost(told: Case) -> Case:
    return replace(told, found=None)


def counting(told: Case, **counts: int) -> Case:
    """Let GetTask have found another count."""
    found = task_pb2.Task()
    assert told.found is not None
    found.CopyFrom(told.found)
    for name, count in counts.items():
        setattr(found, name, count)
    return replace(told, found=found)


_PAUSE = call("pause", 95, "PAUSED")
_DEADLINE = task_pb2.Schedule(start_deadline=duration(20))

#: Rule, history, and a part of what is said of it.
WRONG: list[tuple[Rule, Case, str]] = [
    (rules.kept, lost(lively()), "is lost"),
    (rules.kept, with_calls(lively(), call("purge", 2_000, "COMPLETED")), "is there after Purge"),
    (rules.kept, replace(lost(lively()), entry=replace(lively().entry, acknowledged=False)), "is not there"),
    (rules.numbered, replace(lively(), events=lively().events[1:]), "gaps or repeats"),
    (rules.numbered, with_event(lively(), 1, sequence=1), "gaps or repeats"),
    (rules.ended, without(lively(), 11), "has not ended"),
    (rules.ended, replace(lively(), events=[]), "no timeline"),
    (rules.ended, replace(lively(), found=failed().found), "its timeline ends with COMPLETED"),
    (rules.ended, replace(lively(), events=[*lively().events, event("DISPATCHED", 4)]), "after its end"),
    (rules.counted, counting(lively(), attempt_count=2), "counts (2, 0, 1)"),
    (rules.counted, counting(failed(), retry_count=1), "counts (3, 1, 0)"),
    (rules.counted, counting(lively(), repeat_count=2), "counts (3, 0, 2)"),
    (rules.counted, without(lively(), 2), "was recovered 0 times"),
    (rules.counted, with_event(lively(), 9, attempt=4), "not numbered"),
    (rules.counted, with_event(lively(), 10, attempt=2), "came to 2 outcomes"),
    (rules.continued, with_event(lively(), 3, attempt=2), "attempt 2 went out in the place of attempt 1"),
    (rules.continued, without(lively(), 5), "attempt 2 went out in the place of attempt 1"),
    (rules.delivered_once, with_arrivals(lively(), arrival(2, 620)), "arrived 2 times, went out 1"),
    (rules.delivered_once, changed(lively(), received_ms=START_MS + 890), "before it was claimed"),
    (rules.delivered_once, with_arrivals(lively(), arrival(4, 1_200)), "went out 0 times"),
    (rules.answered, without_arrivals(lively()), "did not answer"),
    (rules.answered, changed(lively(), status=202), "did not answer"),
    (rules.answered, with_event(failed(), 8, status_code=404), "did not answer"),
    (rules.answered, with_event(lively(), 10, status_code=500), "SUCCEEDED with status 500"),
    (rules.answered, changed(lively(), received_ms=START_MS + 1_001), "did not answer"),
    (rules.answered, replace(lively(), events=history(event("ERRORED", 1, "CONNECTION_LOST"))), "without a"),
    (rules.answered, replace(lively(), events=history(event("ERRORED", 1, "TIMEOUT"))), "without a"),
    (rules.waited, with_task(lively(), schedule=after(500)), "SUBSCRIBED is due after 50 ms instead of 500"),
    (rules.waited, with_task(lively(), retry_policy=retries(2, 51)), "RETRY_SCHEDULED is due after 50 ms"),
    (rules.waited, with_task(lively(), repeat_policy=repeats(1, 51)), "REPEAT_SCHEDULED is due after 50 ms"),
    (rules.never_early, with_event(cancelled(), 3, reason=0), "early"),
    (rules.budgeted, with_task(lively(), retry_policy=retries(0)), "retry 1 of 0"),
    (rules.budgeted, with_task(lively(), repeat_policy=repeats(0)), "repetition 1 of 0"),
    (rules.budgeted, with_task(lively(), repeat_policy=repeats(2)), "after 2 successes instead of 3"),
    (rules.budgeted, with_task(failed(), retry_policy=retries(3)), "after 2 of 3 retries"),
    (rules.budgeted, with_event(failed(), 9, reason=timeline_pb2.REASON_NOT_RETRYABLE), "not retryable"),
    (rules.budgeted, with_event(failed(), 9, reason=timeline_pb2.REASON_POISON), "POISON after 0"),
    (rules.budgeted, with_event(failed(), 9, reason=timeline_pb2.REASON_INTERNAL), "INTERNAL"),
    (rules.budgeted, without(poison(), 2), "POISON after 3"),
    (rules.budgeted, case(history(event("EXPIRED")), []), "without a start deadline"),
    (
        rules.budgeted,
        case(history(event("SUBSCRIBED", due=90), event("EXPIRED")), [], schedule=_DEADLINE),
        "expired 10 ms after",
    ),
    (rules.started_in_time, with_task(lively(), schedule=_DEADLINE), "started 50 ms after"),
    (rules.cancelled, with_calls(lively(), call("cancel", 0, "CANCELED")), "timeline ends with"),
    (rules.cancelled, with_calls(lively(), call("cancel", 0, "SCHEDULED")), "answered SCHEDULED"),
    (rules.cancelled, with_arrivals(cancelled(), arrival(2, 416)), "11 ms after Cancel"),
    (rules.cancelled, with_calls(cancelled()), "nobody asked for it"),
    (rules.purged, with_calls(lively(), call("purge", 0, "COMPLETED")), "after Purge had answered"),
    (rules.paused, with_calls(lively(), _PAUSE), "after Pause had answered"),
    (rules.paused, with_calls(lively(), call("pause", 95, "DISPATCHING", attempts=1)), "attempt 2 arrived"),
    (rules.paused, with_calls(lively(), call("pause", 95, "SCHEDULED")), "Pause answered SCHEDULED"),
    (rules.paused, with_calls(without_arrivals(lively()), _PAUSE), "does not tell of it"),
    (rules.resumed, with_calls(cancelled(), _PAUSE), "was resumed 1 times, was asked to 0"),
    (rules.resumed, with_calls(cancelled(), call("resume", 195, "PAUSED")), "Resume answered PAUSED"),
    (rules.resumed, with_calls(cancelled(), call("resume", 195)), "nobody asked for it"),
    (rules.run_now, with_calls(lively(), call("run", 5, "SCHEDULED")), "no attempt went out with RUN_NOW"),
    (rules.run_now, with_calls(cancelled(), call("cancel", 395)), "nobody asked for it"),
    (rules.same_request, changed(lively(), body_digest=digest(b"")), "another body"),
    (rules.same_request, changed(lively(), method="PUT"), "was a PUT"),
    (rules.same_request, changed(failed(), headers=arrival(3, 0, run=1).headers), "several ids"),
    (rules.same_request, changed(failed(), headers=arrival(3, 0).headers), "retry 0 in repetition 0"),
    (
        rules.same_request,
        changed(lively(), headers={**arrival(3, 0, run=1).headers, "webhook-id": "task_0"}),
        "one id",
    ),
]


@pytest.mark.parametrize(
    ("rule", "told", "said"), WRONG, ids=[f"{rule.__name__}-{said}" for rule, _, said in WRONG]
)
def test_a_fault_is_found(rule: Rule, told: Case, said: str) -> None:
    assert said in "\n".join(rule(told))


def test_no_rule_is_left_out() -> None:
    assert {rule for rule, _, _ in WRONG} == set(RULES)


EXCUSED: dict[str, tuple[Rule, Case]] = {
    "a purge without an answer": (rules.kept, with_calls(lost(lively()), call("purge", 2_000))),
    "purged while paused": (
        rules.cancelled,
        with_calls(
            lost(case(history(event("SUBSCRIBED"), event("PAUSED"), event("CANCELED")), [])),
            call("purge", 95),
        ),
    ),
    "a cancel that came too late": (rules.cancelled, with_calls(lively(), call("cancel", 0, refused=True))),
    "a cancel without an answer": (rules.cancelled, with_calls(cancelled(), call("cancel", 0))),
    "in the socket while Cancel's answer was read": (
        rules.cancelled,
        with_arrivals(cancelled(), arrival(2, 415)),
    ),
    "a resume without an answer, before": (
        rules.paused,
        with_calls(lively(), call("resume", 0), call("pause", 95, "DISPATCHING")),
    ),
    "the attempt in flight": (
        rules.paused,
        with_calls(lively(), call("pause", 0, "DISPATCHING", attempts=3)),
    ),
    "a hanging target": (
        rules.answered,
        case(history(event("ERRORED", 1, "TIMEOUT")), [], attempt_timeout=duration(100)),
    ),
    "paused before it was claimed": (
        rules.run_now,
        with_calls(lively(), call("run", 5, "SCHEDULED"), call("pause", 20, "PAUSED")),
    ),
}


@pytest.mark.parametrize("name", EXCUSED)
def test_a_race_is_no_fault(name: str) -> None:
    rule, told = EXCUSED[name]
    assert list(rule(told)) == []


def test_an_excuse_is_no_excuse_for_more() -> None:
    """A Resume that was made after Pause had answered ends the pause when it is sent, and not before."""
    told = with_calls(lively(), _PAUSE, call("resume", 400))
    assert [said.split(" arrived")[0] for said in rules.paused(told) if "arrived" in said] == ["attempt 1"]


WATCHED = {"a": lively().events, "b": failed().events}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"a": WATCHED["a"]}, "b: the watch of all told events []"),
        ({**WATCHED, "a": WATCHED["a"][1:]}, "a: the watch of all told events [2, "),
        ({**WATCHED, "a": [*WATCHED["a"], WATCHED["a"][-1]]}, "12, 12] of 12"),
        (
            {**WATCHED, "a": [*WATCHED["a"][:1], WATCHED["a"][2], WATCHED["a"][1], *WATCHED["a"][3:]]},
            "[1, 3, 2, 4",
        ),
        ({**WATCHED, "a": with_event(lively(), 0, attempt=7).events}, "told [sequence: 1"),
        ({**WATCHED, "c": WATCHED["a"]}, "c: the watch of all told of a task that is not its business"),
    ],
)
def test_a_watch_tells_what_the_timelines_tell(told: dict[str, list[TimelineEvent]], said: str) -> None:
    assert list(watched("all", WATCHED, WATCHED)) == []
    assert said in "\n".join(watched("all", told, WATCHED)).replace("\n", " ")


def test_a_stall_excuses_what_is_noted_about_then_and_nothing_else() -> None:
    pulse = Pulse()
    pulse.note(START_MS, 19)
    pulse.note(START_MS + 10_000, 400)
    pulse.note(START_MS + 10_500, 300)
    assert [pulse.before(START_MS + at) for at in (0, 8_000, 10_000, 11_200, 12_000)] == [0, 0, 700, 300, 0]
    assert pulse.longest_ms == 400
