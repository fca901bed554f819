"""What a timeline says of its task: the state machine told from its events alone."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kuueri_grpc.domain.state import TERMINAL_STATES, WAITING_STATES

Event = dict[str, Any]


@dataclass
class Told:
    """Where the events lead. `faults`: what cannot have happened in that order."""

    state: str = ""
    origin: str = ""
    attempt: int = 0
    retry: int = 0
    repeat: int = 0
    again: bool = False  # the attempt that was lost runs next, not a new one
    answer: str = ""  # SUCCEEDED or ERRORED, until what follows is told
    faults: list[str] = field(default_factory=list)


def parse(lines: Sequence[bytes]) -> list[Event]:
    return [json.loads(line) for line in lines]


def subscribed(create_ms: bytes, due_ms: bytes) -> bytes:
    """Return the first line of a timeline, as it is told of a task of which nothing else is."""
    return b'{"n":1,"t":%b,"e":"SUBSCRIBED","x":%b}' % (create_ms, due_ms)


def newest(events: Sequence[Event]) -> Sequence[Event]:
    """Return the events that are kept without a gap up to the last one."""
    start = len(events) - 1
    while start > 0 and events[start - 1]["n"] == events[start]["n"] - 1:
        start -= 1
    return events[start:]


def sequence_faults(events: Sequence[Event], last: int, cap: int) -> list[str]:
    """Return what is wrong with the numbers and times of a timeline that should end with `last`.

    Of more events than `cap`, the first 5 % (at most 100) and the newest 90 %, or more of these, are kept.
    """
    numbers = [event["n"] for event in events]
    in_front, faults = len(events) - len(newest(events)), []
    if numbers[-1] != last:
        faults.append(f"it ends with event {numbers[-1]} of {last}")
    if in_front:
        first_kept = min(100, math.ceil(cap / 20))
        if last <= cap or numbers[:in_front] != list(range(1, first_kept + 1)):
            faults.append(f"sequences {numbers[:in_front]} in front of a gap")
        if not int(cap * 0.9) <= len(events) - in_front <= cap - first_kept:
            faults.append(f"{len(events) - in_front} events behind a gap")
    elif numbers[0] != 1:
        faults.append(f"it begins with event {numbers[0]}")
    times = [event["t"] for event in events]
    if times != sorted(times):
        faults.append(f"times go back: {times}")
    return faults


def tell(events: Sequence[Event]) -> Told:
    """Follow a whole timeline, from SUBSCRIBED on."""
    told = Told()
    for event in events:
        kind = event["e"]
        fault = _STEPS[kind](told, event)
        if fault:
            told.faults.append(f"event {event['n']} ({kind}): {fault}")
    if told.answer:
        told.faults.append(f"nothing follows the last {told.answer}")
    return told


def _subscribed(told: Told, event: Event) -> str:
    fault = "not the first" if told.state else ""
    told.state = "SCHEDULED"
    return fault


def _dispatched(told: Told, event: Event) -> str:
    fault = "" if told.state in WAITING_STATES else f"the task was {told.state}"
    expected = told.attempt + (0 if told.again else 1)
    if event["a"] != expected:
        fault += f"attempt {event['a']} instead of {expected}"
    told.origin, told.state, told.attempt, told.again = told.state, "DISPATCHING", event["a"], False
    return fault


def _answered(told: Told, event: Event) -> str:
    fault = "" if told.state == "DISPATCHING" and not told.answer else f"the task was {told.state}"
    if event["a"] != told.attempt:
        fault += f"attempt {event['a']}, but {told.attempt} was in flight"
    told.answer = event["e"]
    return fault


def _retry_scheduled(told: Told, event: Event) -> str:
    fault = "" if told.answer == "ERRORED" else "no error came before"
    told.state, told.answer, told.retry = "RETRYING", "", told.retry + 1
    return fault


def _repeat_scheduled(told: Told, event: Event) -> str:
    fault = "" if told.answer == "SUCCEEDED" else "no success came before"
    told.state, told.answer, told.repeat, told.retry = "REPEATING", "", told.repeat + 1, 0
    return fault


def _paused(told: Told, event: Event) -> str:
    fault = "" if told.state in WAITING_STATES else f"the task was {told.state}"
    told.origin, told.state = told.state, "PAUSED"
    return fault


def _resumed(told: Told, event: Event) -> str:
    fault = "" if told.state == "PAUSED" else f"the task was {told.state}"
    told.state = told.origin
    return fault


def _recovered(told: Told, event: Event) -> str:
    fault = "" if told.state == "DISPATCHING" and not told.answer else f"the task was {told.state}"
    told.state, told.again = told.origin, True
    return fault


def _ended(told: Told, event: Event) -> str:
    kind, reason = event["e"], event.get("r")
    allowed = {
        "COMPLETED": told.answer == "SUCCEEDED",
        "FAILED": told.answer == "ERRORED" or (reason == "POISON" and told.state == "DISPATCHING"),
        "CANCELED": told.state not in TERMINAL_STATES and not told.answer,
        "EXPIRED": told.state == "SCHEDULED" and told.attempt == 0,
    }[kind]
    fault = "" if allowed else f"the task was {told.state}, its last answer {told.answer or 'none'}"
    told.state, told.answer = kind, ""
    return fault


_STEPS = {
    "SUBSCRIBED": _subscribed,
    "DISPATCHED": _dispatched,
    "SUCCEEDED": _answered,
    "ERRORED": _answered,
    "RETRY_SCHEDULED": _retry_scheduled,
    "REPEAT_SCHEDULED": _repeat_scheduled,
    "PAUSED": _paused,
    "RESUMED": _resumed,
    "RECOVERED": _recovered,
    "COMPLETED": _ended,
    "FAILED": _ended,
    "CANCELED": _ended,
    "EXPIRED": _ended,
}
