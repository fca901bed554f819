"""What must be true of every task, whatever died meanwhile and in whatever order things happened.

Each rule says what is wrong with a case, and knows of no excuse but those that its text gives: a call without
an answer may have been carried out, or be carried out at any later time (it lies in the socket of a
process that is frozen). All is on one machine, so that there is one clock.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import ms, of_type, reason_name, state_name, type_name, types
from tests.chaos.ledger import Call, Entry
from tests.chaos.target import Arrival, digest
from tests.chaos.world import MAX_LOSSES

TERMINAL_EVENTS = {"COMPLETED", "FAILED", "CANCELED", "EXPIRED"}
ANSWERS = ("SUCCEEDED", "ERRORED")


@dataclass(frozen=True)
class Case:
    """Everything that is known of a task.

    `found`: what GetTask answers, None: NOT_FOUND. `events`: its timeline; of a task that was purged what
    was told to the watch of all tasks. `slack`: for how long (ms) a
    request that was noted at an instant may have lain in the target's socket while an answer to a client was
    read: both are this process.
    """

    entry: Entry
    found: task_pb2.Task | None
    events: Sequence[TimelineEvent]
    arrivals: Sequence[Arrival]
    slack: Callable[[int], int]

    @property
    def task(self) -> task_pb2.Task:
        return self.entry.task

    def count(self, name: str) -> Counter[int]:
        """Return how many events of a type there are for each attempt."""
        return Counter(event.attempt for event in of_type(self.events, name))


Rule = Callable[[Case], Iterator[str]]


def kept(case: Case) -> Iterator[str]:
    """What was acknowledged is there until it is purged."""
    purged = [call for call in case.entry.of("purge") if call.done]
    if case.found is None and case.entry.acknowledged and not case.entry.tried("purge"):
        yield "was acknowledged, and is lost"
    if case.found is not None and purged:
        yield "is there after Purge had answered"
    if case.found is None and not case.entry.acknowledged and case.arrivals:
        yield "was sent, and is not there"


def numbered(case: Case) -> Iterator[str]:
    """Events are numbered 1, 2, 3 ..., and their times do not go back."""
    sequences = [event.sequence for event in case.events]
    if sequences != list(range(1, len(sequences) + 1)):
        yield f"its timeline has gaps or repeats: {sequences}"
    times = [ms(event.create_time) for event in case.events]
    if times != sorted(times):
        yield f"its times go back: {times}"


def ended(case: Case) -> Iterator[str]:
    """Its one last event is its end."""
    told = types(case.events)
    if set(told[:-1]) & TERMINAL_EVENTS:
        yield f"goes on after its end: {told}"
    if told and told[-1] not in TERMINAL_EVENTS:
        yield f"has not ended: {told}"
    elif not told and (case.found is not None or case.arrivals):
        yield "has no timeline"
    elif case.found is not None and told[-1] != state_name(case.found):
        yield f"is {state_name(case.found)}, its timeline ends with {told[-1]}"


def counted(case: Case) -> Iterator[str]:
    """Attempts are numbered without gaps, and one goes out again only after a RECOVERED."""
    dispatches, recoveries = case.count("DISPATCHED"), case.count("RECOVERED")
    if sorted(dispatches) != list(range(1, len(dispatches) + 1)):
        yield f"its attempts are not numbered 1, 2, 3 ...: {sorted(dispatches)}"
    if case.found is not None:
        told = [(retry, repeat) for _, retry, repeat in _places(case.events)]
        counts = (case.found.attempt_count, case.found.retry_count, case.found.repeat_count)
        if told and counts != (len(dispatches), *told[-1]):
            yield f"counts {counts} attempts, retries and repetitions, not {(len(dispatches), *told[-1])}"
    for attempt, count in dispatches.items():
        if count > 1 + recoveries[attempt]:
            yield f"attempt {attempt} went out {count} times, was recovered {recoveries[attempt]} times"
    answers = case.count("SUCCEEDED") + case.count("ERRORED")
    for attempt, count in answers.items():
        if count > 1 or not dispatches[attempt]:
            yield f"attempt {attempt} went out {dispatches[attempt]} times and came to {count} outcomes"


def continued(case: Case) -> Iterator[str]:
    """What was lost goes out again as the same attempt; the next attempt follows an outcome."""
    due = 1
    for event in case.events:
        match type_name(event):
            case "DISPATCHED":
                if event.attempt != due:
                    yield f"attempt {event.attempt} went out in the place of attempt {due}"
                due = event.attempt
            case "RETRY_SCHEDULED" | "REPEAT_SCHEDULED":
                due = event.attempt + 1


def delivered_once(case: Case) -> Iterator[str]:
    """An attempt comes to the target once for each time that it went out, and not before that."""
    dispatches = case.count("DISPATCHED")
    first = {event.attempt: ms(event.create_time) for event in reversed(of_type(case.events, "DISPATCHED"))}
    for attempt, count in Counter(arrival.attempt for arrival in case.arrivals).items():
        if count > dispatches[attempt]:
            yield f"attempt {attempt} arrived {count} times, went out {dispatches[attempt]} times"
    for arrival in case.arrivals:
        if arrival.received_ms < first.get(arrival.attempt, 0):
            yield f"attempt {arrival.attempt} arrived before it was claimed"


def answered(case: Case) -> Iterator[str]:
    """An outcome is what the target did: it got that attempt and gave that status, by then."""
    for event in case.events:
        if type_name(event) not in ANSWERS:
            continue
        name = f"attempt {event.attempt} {type_name(event)}"
        if event.HasField("status_code"):
            code = event.status_code
            if (type_name(event) == "SUCCEEDED") != (200 <= code < 300):
                yield f"{name} with status {code}"
            if not any(
                arrival.attempt == event.attempt
                and arrival.status == code
                and arrival.received_ms <= ms(event.create_time)
                for arrival in case.arrivals
            ):
                yield f"{name} with status {code}, which the target did not answer"
        elif reason_name(event) != "TIMEOUT" or not case.task.HasField("attempt_timeout"):
            yield f"{name} without a status: {reason_name(event)}"


def waited(case: Case) -> Iterator[str]:
    """What is due is due as long after as the task says; the waits of all tasks here are constant."""
    waits = {
        "SUBSCRIBED": case.task.schedule.delay,
        "RETRY_SCHEDULED": case.task.retry_policy.backoff.interval,
        "REPEAT_SCHEDULED": case.task.repeat_policy.backoff.interval,
    }
    for event in case.events:
        if (asked := waits.get(type_name(event))) is not None:
            wait = ms(event.next_time) - ms(event.create_time)
            if wait != ms(asked):
                yield f"{type_name(event)} is due after {wait} ms instead of {ms(asked)}"


def never_early(case: Case) -> Iterator[str]:
    """No attempt goes out before it is due, unless RunTask asked for it."""
    due = 0
    for event in case.events:
        if type_name(event) == "DISPATCHED":
            if ms(event.create_time) < due and reason_name(event) != "RUN_NOW":
                yield f"attempt {event.attempt} went out {due - ms(event.create_time)} ms early"
        elif event.HasField("next_time"):
            due = ms(event.next_time)


def budgeted(case: Case) -> Iterator[str]:
    """Retries and repetitions are as many as the policies say, and an end has its reason."""
    max_retries, max_repeats = case.task.retry_policy.max_retries, case.task.repeat_policy.max_repeats
    for event, retries, repeats in _places(case.events):
        match type_name(event):
            case "RETRY_SCHEDULED":
                if retries > max_retries:
                    yield f"retry {retries} of {max_retries}"
            case "REPEAT_SCHEDULED":
                if repeats > max_repeats:
                    yield f"repetition {repeats} of {max_repeats}"
            case "COMPLETED":
                successes = len(of_type(case.events, "SUCCEEDED"))
                if successes != max_repeats + 1:
                    yield f"completed after {successes} successes instead of {max_repeats + 1}"
            case "FAILED":
                yield from _failed(case, event, retries)
            case "EXPIRED":
                yield from _expired(case, event)


def _failed(case: Case, event: TimelineEvent, retries: int) -> Iterator[str]:
    policy = case.task.retry_policy
    codes, errors = policy.retryable_status_codes, of_type(case.events, "ERRORED")
    last_code = errors[-1].status_code if errors and errors[-1].HasField("status_code") else None
    match reason_name(event):
        case "RETRIES_EXHAUSTED":
            if retries != policy.max_retries:
                yield f"failed after {retries} of {policy.max_retries} retries"
            if not errors or errors[-1].attempt != event.attempt:
                yield "failed without an error"
        case "NOT_RETRYABLE":
            if not codes or last_code is None or last_code in codes:
                yield f"failed as not retryable after status {last_code}"
        case "POISON":
            # Every loss that counts, but the last, is told; what was handed back does not count.
            told = of_type(case.events, "RECOVERED")
            lost = [one for one in told if one.attempt == event.attempt and reason_name(one) == "LEASE_LOST"]
            if len(lost) < MAX_LOSSES - 1:
                yield f"is POISON after {len(lost)} recoveries"
        case reason:
            yield f"failed: {reason}"


def _expired(case: Case, event: TimelineEvent) -> Iterator[str]:
    if not case.task.schedule.HasField("start_deadline"):
        yield "expired without a start deadline"
        return
    due = [ms(told.next_time) for told in case.events if told.HasField("next_time")][-1]
    late = ms(event.create_time) - due
    # RunTask makes a task due that is not told to be.
    if late <= ms(case.task.schedule.start_deadline) and not case.entry.tried("run"):
        yield f"expired {late} ms after it was due"


def started_in_time(case: Case) -> Iterator[str]:
    """No first attempt is claimed after the start deadline."""
    if not case.task.schedule.HasField("start_deadline") or case.entry.tried("run"):
        return
    due = 0
    for event in case.events:
        if type_name(event) == "DISPATCHED":
            late = ms(event.create_time) - due
            if late > ms(case.task.schedule.start_deadline):
                yield f"started {late} ms after it was due"
            return
        due = ms(event.next_time) or due


def cancelled(case: Case) -> Iterator[str]:
    """An acknowledged Cancel is the end, and no attempt starts after it; nothing else cancels a task."""
    for call in case.entry.of("cancel"):
        if not call.done or call.answered_ms is None or call.answer is None:
            continue
        if state_name(call.answer) != "CANCELED":
            yield f"Cancel answered {state_name(call.answer)}"
        if types(case.events)[-1:] != ["CANCELED"]:
            yield f"was canceled, and its timeline ends with {types(case.events)[-1:]}"
        yield from _arrived_after(case, call.answered_ms, "Cancel")
    # Purge cancels a task that is paused.
    if of_type(case.events, "CANCELED") and not (case.entry.tried("cancel") or case.entry.tried("purge")):
        yield "is CANCELED, and nobody asked for it"


def purged(case: Case) -> Iterator[str]:
    """Nothing is sent after Purge has answered."""
    for call in case.entry.of("purge"):
        if call.done and call.answered_ms is not None:
            yield from _arrived_after(case, call.answered_ms, "Purge")


def _arrived_after(case: Case, answered_ms: int, name: str) -> Iterator[str]:
    for arrival in case.arrivals:
        if (late := arrival.received_ms - answered_ms) > case.slack(arrival.received_ms):
            yield f"attempt {arrival.attempt} arrived {late} ms after {name} had answered"


def paused(case: Case) -> Iterator[str]:
    """Between an acknowledged Pause and the call that ends it, only the attempt in flight arrives.

    A Resume or RunTask without an answer, made before, may end it at any time.
    """
    calls = case.entry.calls
    for place, call in enumerate(calls):
        if call.action != "pause" or not call.done or call.answered_ms is None or call.answer is None:
            continue
        state = state_name(call.answer)
        if state not in ("PAUSED", "DISPATCHING"):
            yield f"Pause answered {state}"
        if state == "PAUSED" and not of_type(case.events, "PAUSED"):
            yield "was paused, and its timeline does not tell of it"
        if any(earlier.unknown and earlier.action in ("resume", "run") for earlier in calls[:place]):
            continue
        until = min((later.sent_ms for later in calls[place + 1 :] if _lets_go(later)), default=None)
        in_flight = call.answer.attempt_count if state == "DISPATCHING" else 0
        for arrival in case.arrivals:
            late = arrival.received_ms - call.answered_ms
            before_the_end = until is None or arrival.received_ms < until
            if late > case.slack(arrival.received_ms) and before_the_end and arrival.attempt > in_flight:
                yield f"attempt {arrival.attempt} arrived {late} ms after Pause had answered"


def _lets_go(call: Call) -> bool:
    return call.action in ("resume", "run")


def resumed(case: Case) -> Iterator[str]:
    """A Resume that was acknowledged answers a task that is not paused; nobody else resumes."""
    for call in case.entry.of("resume"):
        if call.done and call.answer is not None and state_name(call.answer) == "PAUSED":
            yield "Resume answered PAUSED"
    told = of_type(case.events, "RESUMED")
    # A Pause without an answer may have come between the two times that a Resume was carried out.
    asked = sum(not call.refused for call in case.entry.of("resume", "run"))
    asked += sum(call.unknown for call in case.entry.of("pause"))
    if len(told) > asked:
        yield f"was resumed {len(told)} times, was asked to {asked} times"
    if of_type(case.events, "PAUSED") and not case.entry.tried("pause"):
        yield "was paused, and nobody asked for it"


def run_now(case: Case) -> Iterator[str]:
    """An acknowledged RunTask is told, and nothing goes out early without one.

    Not where the task was canceled, paused again or purged before it was claimed, nor where it
    expired; a call without an answer may have done any of it.
    """
    early = [event for event in case.events if reason_name(event) == "RUN_NOW"]
    if early and not case.entry.tried("run"):
        yield "ran early, and nobody asked for it"
    calls = case.entry.calls
    for place, call in enumerate(calls):
        if call.action != "run" or not call.done:
            continue
        others = [
            other for other in calls if other.action in ("cancel", "pause", "purge") and not other.refused
        ]
        overtaken = any(other.unknown or calls.index(other) > place for other in others)
        if not overtaken and types(case.events)[-1:] != ["EXPIRED"]:
            sent = [event for event in early if type_name(event) == "DISPATCHED"]
            if not any(ms(event.create_time) >= call.sent_ms for event in sent):
                yield "RunTask was acknowledged, and no attempt went out with RUN_NOW after it"


def same_request(case: Case) -> Iterator[str]:
    """Every delivery is what was subscribed; those of one run have one webhook-id and no other run has it."""
    method, body = case.task.http_target.http_method, digest(case.task.http_target.body)
    runs = _runs(case.events)
    ids: defaultdict[int, set[str]] = defaultdict(set)
    for arrival in case.arrivals:
        name = f"attempt {arrival.attempt}"
        if arrival.method != task_pb2.HttpMethod.Name(method).removeprefix("HTTP_METHOD_"):
            yield f"{name} was a {arrival.method}"
        if arrival.body_digest != body:
            yield f"{name} came with another body"
        if arrival.attempt not in runs:
            continue  # a rule of its own
        retry, repeat = runs[arrival.attempt]
        ids[repeat].add(arrival.webhook_id)
        said = tuple(
            int(arrival.headers.get(f"x-kuueri-tasks-{kind}-count", 0)) for kind in ("retry", "repeat")
        )
        if said != (retry, repeat):
            yield f"{name} said that it was retry {said[0]} in repetition {said[1]}, not {retry} in {repeat}"
    for repeat, found in ids.items():
        if len(found) > 1:
            yield f"repetition {repeat} came under several ids: {sorted(found)}"
    if len(set().union(*ids.values())) < len(ids):
        yield f"repetitions came under one id: {dict(ids)}"


def _runs(events: Sequence[TimelineEvent]) -> dict[int, tuple[int, int]]:
    """Return of each attempt which retry it was, in which repetition."""
    runs: dict[int, tuple[int, int]] = {}
    for event, retry, repeat in _places(events):
        if type_name(event) == "DISPATCHED":
            runs.setdefault(event.attempt, (retry, repeat))
    return runs


def _places(events: Sequence[TimelineEvent]) -> Iterator[tuple[TimelineEvent, int, int]]:
    """Yield each event with the retry, and the repetition, that the task has come to with it."""
    retry, repeat = 0, 0
    for event in events:
        match type_name(event):
            case "RETRY_SCHEDULED":
                retry += 1
            case "REPEAT_SCHEDULED":
                retry, repeat = 0, repeat + 1
        yield event, retry, repeat


RULES: tuple[Rule, ...] = (
    kept,
    numbered,
    ended,
    counted,
    continued,
    delivered_once,
    answered,
    waited,
    never_early,
    budgeted,
    started_in_time,
    cancelled,
    purged,
    paused,
    resumed,
    run_now,
    same_request,
)
