"""The documents say what the code does: their tables, diagrams and examples are checked against it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from kuueri_grpc.domain import backoff as backoff_module
from kuueri_grpc.domain.backoff import delay_ms
from kuueri_grpc.domain.decision import Decision, Progress, decide
from kuueri_grpc.domain.outcome import Outcome, answered
from kuueri_grpc.domain.state import ORIGIN, TRANSITIONS, WAITING_STATES, TaskState, Trigger, next_state
from kuueri_grpc.domain.task import Backoff, Growth, RepeatPolicy, RetryPolicy
from kuueri_grpc.domain.timeline import EventType, Reason
from kuueri_grpc.pb import task_pb2

ROOT = Path(__file__).parents[2]
STATE_MACHINE = (ROOT / "docs/state_machine.md").read_text(encoding="utf-8")
RETRIES = (ROOT / "docs/retries.md").read_text(encoding="utf-8")
TASK_PROTO = (ROOT / "protos/kuueri/tasks/v1/task.proto").read_text(encoding="utf-8")

Table = list[list[str]]


def tables(markdown: str) -> list[Table]:
    """Return every table as rows of cells, the header first, without the rule under it."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", markdown, re.MULTILINE)
    rows = [[_cells(line) for line in block.splitlines()] for block in blocks]
    return [[header, *body] for header, _rule, *body in rows]


def table(markdown: str, first_header: str) -> Table:
    """Return the one table whose first column has that name."""
    (found,) = [rows for rows in tables(markdown) if rows[0][0] == first_header]
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def section(markdown: str, title: str) -> str:
    """Return the text under a heading of the second level."""
    return re.split(r"^## ", markdown.split(f"\n## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


# --- docs/state_machine.md --------------------------------------------------------------------


def test_transition_table() -> None:
    header, *rows = table(section(STATE_MACHINE, "The table"), "trigger")
    assert header[1:] == list(TaskState)
    assert [row[0] for row in rows] == list(Trigger)
    documented = {
        (state, trigger): cell
        for trigger, *cells in rows
        for state, cell in zip(header[1:], cells, strict=True)
    }
    expected = {
        (state, trigger): _cell(state, trigger)
        for state in map(str, TaskState)
        for trigger in map(str, Trigger)
    }
    assert documented == expected


def _cell(state: str, trigger: str) -> str:
    target = TRANSITIONS.get((TaskState(state), Trigger(trigger)))
    if target is None:
        return "-"
    return "origin" if target is ORIGIN else str(target)


def test_diagrams_draw_every_transition_that_changes_the_state() -> None:
    diagrams = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", STATE_MACHINE, re.DOTALL)
    arrows = re.findall(r"^ *(\w+) --> (\w+) : (.+)$", "".join(diagrams), re.MULTILINE)
    drawn = {
        (source, trigger, target)
        for tail, target, triggers in arrows
        for trigger in triggers.split(", ")
        for source in (WAITING_STATES if tail == "WAITING" else {tail})
    }
    expected = {
        (state, trigger, "WAITING" if target is ORIGIN else target)
        for (state, trigger), target in TRANSITIONS.items()
        if target is not state
    }
    assert drawn == expected


def test_diagrams_begin_and_end_as_tasks_do() -> None:
    assert re.findall(r"\[\*\] --> (\w+)", STATE_MACHINE) == ["SCHEDULED"]
    ends = re.findall(r"(\w+) --> \[\*\]", STATE_MACHINE)
    assert sorted(ends) == sorted(
        {TaskState.COMPLETED, TaskState.FAILED, TaskState.EXPIRED, TaskState.CANCELED}
    )


def test_every_state_and_trigger_is_explained() -> None:
    assert [row[0] for row in table(STATE_MACHINE, "state")[1:]] == list(TaskState)
    triggers = table(section(STATE_MACHINE, "Triggers"), "trigger")[1:]
    assert [row[0] for row in triggers] == list(Trigger)


def test_triggers_name_events_of_the_timeline() -> None:
    named = {
        word
        for _, _, events in table(section(STATE_MACHINE, "Triggers"), "trigger")[1:]
        for word in re.findall(r"[A-Z_]{5,}", events)
    }
    # RUN names a state and a reason besides; SUBSCRIBED is the event of no trigger.
    assert named - {"RUN_NOW"} == set(EventType) - {EventType.SUBSCRIBED}


def test_a_held_task_goes_where_the_document_says() -> None:
    rows = table(section(STATE_MACHINE, "Pause"), "the attempt ends with")[1:]
    documented = {trigger: row[1] for row in rows for trigger in row[0].split(", ")}
    ends = {trigger for state, trigger in TRANSITIONS if state is TaskState.DISPATCHING}
    assert documented.keys() == ends - {Trigger.CANCEL, Trigger.PAUSE, Trigger.RESUME}
    for name, text in documented.items():
        after = next_state(TaskState.DISPATCHING, Trigger(name), TaskState.SCHEDULED)
        if after in WAITING_STATES:
            assert next_state(after, Trigger.PAUSE) is TaskState.PAUSED
            assert text == f"PAUSED, {'same origin as before' if name == 'RECOVER' else f'origin {after}'}"
        else:
            assert after in text


# --- Growth tables ----------------------------------------------------------------------------


def _assert_growth(rows: Table, policy: Backoff) -> None:
    header, *body = rows
    assert [row[0].split(":")[0] for row in body] == list(Growth)
    for label, *cells in body:
        growing = replace(policy, growth=Growth(label.split(":")[0]))
        waits_ms = [delay_ms(growing, int(n), draw=0.0) for n in header[1:]]
        assert [int(cell) * 1_000 for cell in cells] == waits_ms, label


_GROWTH = re.compile(r"<!-- growth: interval=(\d+)s(?: max_interval=(\d+)s)? -->\n((?:\|.*\n)+)")


def test_the_growth_tables_of_the_guide_are_marked() -> None:
    assert len(_GROWTH.findall(RETRIES)) == sum(rows[0][0] == "n" for rows in tables(RETRIES)) == 3


@pytest.mark.parametrize(("interval", "longest", "markdown"), _GROWTH.findall(RETRIES))
def test_growth_table_of_the_guide(interval: str, longest: str, markdown: str) -> None:
    policy = Backoff(int(interval) * 1_000, max_interval_ms=int(longest) * 1_000 if longest else None)
    _assert_growth(table(markdown, "n"), policy)


def test_growth_table_of_the_docstring() -> None:
    assert backoff_module.__doc__ is not None
    _assert_growth(table(backoff_module.__doc__, "n"), Backoff(interval_ms=1_000))


def test_growth_tables_of_the_proto_comment() -> None:
    (comment,) = re.findall(r"((?:^//.*\n)+)^enum Growth", TASK_PROTO, re.MULTILINE)
    lines = [
        [name, *numbers.split()]
        for name, numbers in re.findall(r"^//\s+([A-Zn]+)\s.*?((?:\s+\d+){6})(?:\s+\(.*\))?$", comment, re.M)
    ]
    assert [line[0] for line in lines] == ["n", *Growth] * 2
    _assert_growth(lines[:4], Backoff(interval_ms=1_000))
    _assert_growth(lines[4:], Backoff(interval_ms=1_000, max_interval_ms=10_000))


# --- Examples of docs/retries.md --------------------------------------------------------------

#: (policies in JSON, table of what follows); one example can have several tables.
EXAMPLES = [
    (policies, _rows)
    for policies, rest in re.findall(r"```json\n(.*?)```\n(.*?)(?=```json|\Z)", RETRIES, re.DOTALL)
    for _rows in tables(rest)
]


def test_every_example_has_a_table() -> None:
    assert len(EXAMPLES) >= RETRIES.count("```json") >= 4
    assert all(rows[0] == ["attempt", "starts at", "answer", "what follows"] for _, rows in EXAMPLES)


@pytest.mark.parametrize(("policies", "rows"), EXAMPLES)
def test_example(policies: str, rows: Table) -> None:
    task = json_format.Parse(policies, task_pb2.Task())
    retry, repeat = _retry_policy(task), _repeat_policy(task)
    progress = Progress(retry_count=0, repeat_count=0, run_start_ms=0)
    now_ms = 0
    for number, (attempt, starts_at, answer, what_follows) in enumerate(rows[1:], start=1):
        assert (attempt, starts_at) == (str(number), f"{now_ms // 1_000} s")
        decision = decide(retry, repeat, progress, _outcome(answer), now_ms=now_ms, draw=0.0)
        assert what_follows == _in_words(decision)
        now_ms += decision.delay_ms or 0
        if decision.trigger is Trigger.RETRY:
            progress = replace(progress, retry_count=progress.retry_count + 1)
        else:
            progress = Progress(0, progress.repeat_count + 1, run_start_ms=now_ms)
        is_last = number == len(rows) - 1
        assert is_last == (decision.delay_ms is None)


def _outcome(answer: str) -> Outcome:
    status, _, retry_after = answer.partition(", Retry-After: ")
    if not status.isdigit():
        return Outcome(latency_ms=0, reason=Reason(status))
    return answered(int(status), 0, int(retry_after) * 1_000 if retry_after else None)


def _in_words(decision: Decision) -> str:
    match decision.trigger:
        case Trigger.RETRY | Trigger.REPEAT:
            assert decision.delay_ms is not None
            name = "retry" if decision.trigger is Trigger.RETRY else "repetition"
            return f"{name} in {decision.delay_ms // 1_000} s"
        case Trigger.FAIL:
            return f"FAILED: {decision.reason}"
        case _:
            return "COMPLETED"


def _ms(duration: Duration) -> int:
    return int(duration.ToMilliseconds())


def _backoff(message: task_pb2.Backoff) -> Backoff:
    growth = task_pb2.Growth.Name(message.growth).removeprefix("GROWTH_")
    return Backoff(
        interval_ms=_ms(message.interval) or Backoff().interval_ms,
        growth=Growth.CONSTANT if growth == "UNSPECIFIED" else Growth(growth),
        max_interval_ms=_ms(message.max_interval) if message.HasField("max_interval") else None,
        jitter=message.jitter,
    )


def _retry_policy(task: task_pb2.Task) -> RetryPolicy:
    policy = task.retry_policy
    return RetryPolicy(
        max_retries=policy.max_retries,
        backoff=_backoff(policy.backoff),
        max_duration_ms=_ms(policy.max_duration) or None,
        retryable_status_codes=tuple(policy.retryable_status_codes),
    )


def _repeat_policy(task: task_pb2.Task) -> RepeatPolicy:
    return RepeatPolicy(
        max_repeats=task.repeat_policy.max_repeats, backoff=_backoff(task.repeat_policy.backoff)
    )
