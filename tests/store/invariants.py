"""What holds in every store at every moment, whatever was done to it, read from the raw data.

Task hashes, indexes, counters, timelines and times to live are checked against each other, without the
code under test. The fixtures of the store's and the engine's tests call `check` when a test is over.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from kuueri_grpc.domain.state import TERMINAL_STATES, WAITING_STATES, TaskState
from kuueri_grpc.store.keys import partition_of
from tests.store import feeds, timelines
from tests.store.raw import DATABASE_OF, KEY, Entry, RawStore, read

#: Keys that live as long as the store, the project, or what they point at.
WITHOUT_TTL = frozenset(
    {
        *("store", "email", "project", "projects", "credentials", "closed"),
        *("due", "leases", "ended", "deadlines", "queue", "index"),
    }
)
#: Keys that must end by themselves.
WITH_TTL = frozenset({"request", "claim", "feed", "instances"})
#: Keys of a task: without a time to live while it is live, with one when it has ended.
OF_TASK = frozenset({"task", "config", "timeline"})
#: The last event of a task that waits.
_BEFORE_WAITING = {"SUBSCRIBED", "RETRY_SCHEDULED", "REPEAT_SCHEDULED", "RESUMED", "RECOVERED"}


def check(url: str, partitions: int, timeline_cap: int) -> None:
    """Raise an AssertionError that names everything that does not fit together."""
    found = list(violations(read(url), partitions, timeline_cap))
    assert not found, "the store is inconsistent:\n  " + "\n  ".join(found)


@dataclass(frozen=True)
class _Key:
    family: str
    partition: int
    name: str


class _View:
    """The raw data by what it is for."""

    def __init__(self, raw: RawStore, timeline_cap: int) -> None:
        self.now_ms = raw.now_ms
        self.timeline_cap = timeline_cap
        self.unknown: list[str] = []
        self.by_family: defaultdict[str, dict[_Key, Entry]] = defaultdict(dict)
        for db, text in sorted(raw.names()):
            match = KEY.fullmatch(text)
            if match is None or DATABASE_OF.get(match["family"]) != db:
                self.unknown.append(f"database {db}: a key that nobody answers for, {text}")
                continue
            partition = -1 if match["partition"] is None else int(match["partition"])
            key = _Key(match["family"], partition, match["name"] or "")
            self.by_family[key.family][key] = raw.databases[db][text]

    def scores(self, family: str, partition: int, name: str = "") -> dict[str, int]:
        entry = self.entry(family, partition, name)
        return (entry.scores or {}) if entry else {}

    def hash(self, family: str, partition: int, name: str) -> dict[str, str]:
        entry = self.entry(family, partition, name)
        # A field that was emptied counts as absent. Requests and policies are not text.
        fields = (entry.fields or {}) if entry else {}
        return {name: value.decode(errors="replace") for name, value in fields.items() if value}

    def entry(self, family: str, partition: int, name: str) -> Entry | None:
        return self.by_family[family].get(_Key(family, partition, name))

    def timeline(self, key: _Key) -> tuple[bytes, ...]:
        """Return what is told of a task. Of one that was only subscribed, its record tells it."""
        entry = self.entry("timeline", key.partition, key.name)
        if entry is not None:
            return entry.items or ()
        kept = self.hash("task", key.partition, key.name)
        if kept.get("seq") != "0":
            return ()
        return (timelines.subscribed(kept.get("create", "0").encode(), kept.get("due", "0").encode()),)

    def state(self, partition: int, name: str) -> str | None:
        """Return the state of a task; None: it is gone."""
        return self.hash("task", partition, name).get("state")


def violations(raw: RawStore, partitions: int, timeline_cap: int) -> Iterator[str]:
    """Yield what does not fit together, as sentences."""
    view = _View(raw, timeline_cap)
    yield from view.unknown
    yield from _partition_violations(view, partitions)
    yield from _ttl_violations(view)
    for key in view.by_family["task"]:
        for fault in _task_violations(view, key):
            yield f"task {key.name}: {fault}"
    yield from _orphans(view)
    yield from _queue_violations(view)
    yield from _index_violations(view)
    yield from _quota_violations(view)
    yield from _project_violations(view)
    yield from _feed_violations(view)


def _partition_violations(view: _View, partitions: int) -> Iterator[str]:
    for keys in view.by_family.values():
        for key in keys:
            if key.partition < 0 or not key.name or key.family == "claim":
                continue
            if key.partition != partition_of(key.name.partition("/")[0], partitions):
                yield f"{key.family} {key.name}: in partition {key.partition}, which is not its project's"


def _ttl_violations(view: _View) -> Iterator[str]:
    for family, keys in view.by_family.items():
        for key, entry in keys.items():
            if family in WITHOUT_TTL and entry.expires_ms is not None:
                yield f"{family} {key.name}: would expire"
            if family in WITH_TTL and entry.expires_ms is None:
                yield f"{family} {key.name}: has no time to live"
            if family in OF_TASK:
                ended = view.state(key.partition, key.name) in TERMINAL_STATES
                if ended != (entry.expires_ms is not None):
                    yield f"{family} {key.name}: {'no' if ended else 'a'} time to live"


def _task_violations(view: _View, key: _Key) -> Iterator[str]:
    kept = view.hash("task", key.partition, key.name)
    state = kept.get("state", "none")
    if state not in set(TaskState):
        yield f"its state is {state}"
        return
    if missing := {"queue", "create", "seq", "op"} - kept.keys():
        yield f"it lacks {sorted(missing)}"
        return
    if not {"request", "policy"} <= view.hash("config", key.partition, key.name).keys():
        yield "its request or policy is missing"
    yield from _place_violations(view, key, kept, TaskState(state))
    yield from _timeline_violations(view, key, kept, TaskState(state))


def _place_violations(view: _View, key: _Key, kept: dict[str, str], state: TaskState) -> Iterator[str]:
    """Check the indexes that a task in `state` is in, and the fields that only some states have."""
    project, _, task_id = key.name.partition("/")
    waiting, dispatching = state in WAITING_STATES, state is TaskState.DISPATCHING
    queue = f"{project}/{kept['queue']}"
    places = (queue, f"{queue}~{kept.get('lane')}", f"{queue}~!")
    found = [view.scores("queue", key.partition, place).get(task_id) for place in places]
    queued = [score for score in found if score is not None]
    due = kept.get("due")
    if queued != ([int(due or -1)] if waiting else []):
        yield f"it is {state}, due {due}, and in its queue at {queued}"
    if (key.name in view.scores("leases", key.partition)) != dispatching:
        yield f"it is {state}, and {'not ' if dispatching else ''}leased"
    if task_id not in view.scores("index", key.partition, project):
        yield "ListTasks does not find it"
    expires_ms = view.scores("deadlines", key.partition).get(key.name)
    may_expire = waiting and "deadline" in kept and "attempt" not in kept and not kept.get("early")
    if expires_ms != (int(due or 0) + int(kept["deadline"]) + 1 if may_expire else None):
        yield f"it is {state}, and expires at {expires_ms}"
    wanted = {
        "due": waiting or dispatching,
        "token": dispatching,
        "holder": dispatching,
        "left": state is TaskState.PAUSED,
        "end": state in TERMINAL_STATES,
    }
    for name, there in wanted.items():
        if (name in kept) != there:
            yield f"it is {state} and has {'no ' if there else ''}{name!r}"
    if "hold" in kept and not dispatching:
        yield f"it is {state} and held"
    if state in TERMINAL_STATES:
        yield from _end_violations(view, key)


def _end_violations(view: _View, key: _Key) -> Iterator[str]:
    entries = {family: view.entry(family, key.partition, key.name) for family in OF_TASK}
    instants = {family: entry.expires_ms if entry else None for family, entry in entries.items()}
    if len(set(instants.values())) != 1:
        yield f"its keys do not expire together: {instants}"
    if view.scores("ended", key.partition).get(key.name) != instants["task"]:
        yield "it is not to be swept when it expires"


def _timeline_violations(view: _View, key: _Key, kept: dict[str, str], state: TaskState) -> Iterator[str]:
    events = timelines.parse(view.timeline(key))
    if not events:
        yield "it has no timeline"
        return
    waits_in_record = view.entry("timeline", key.partition, key.name) is None
    if waits_in_record != (kept["seq"] == "0"):
        yield f"'seq' is {kept['seq']}, {'without' if waits_in_record else 'with'} a timeline"
    yield from timelines.sequence_faults(events, int(kept["seq"]) or 1, view.timeline_cap)
    last = events[-1]["e"]
    expected = {TaskState.DISPATCHING: {"DISPATCHED"}, **dict.fromkeys(WAITING_STATES, _BEFORE_WAITING)}
    if last not in expected.get(state, {state}):
        yield f"it is {state}, and its last event is {last}"
    if len(events) != events[-1]["n"]:
        return  # some are gone: nothing to tell the whole story from
    told = timelines.tell(events)
    yield from told.faults
    counters = {name: int(kept.get(name, 0)) for name in ("attempt", "retry", "repeat")}
    if (told.state, told.attempt, told.retry, told.repeat) != (state, *counters.values()):
        yield f"it is {state} with {counters}, its timeline tells {told}"
    if state in (TaskState.DISPATCHING, TaskState.PAUSED) and told.origin != kept.get("origin"):
        yield f"it came from {kept.get('origin')}, its timeline tells {told}"
    if told.again != ("redo" in kept) and state not in TERMINAL_STATES:
        yield f"'redo' is {kept.get('redo')}, its timeline tells {told}"


def _orphans(view: _View) -> Iterator[str]:
    """Yield what is left of tasks that are gone."""
    for family in ("config", "timeline"):
        for key in view.by_family[family]:
            if view.state(key.partition, key.name) is None:
                yield f"{family} {key.name}: its task is gone"
    for key, entry in view.by_family["deadlines"].items():
        for name in entry.scores or {}:
            if view.state(key.partition, name) is None:
                yield f"deadline of {name}: its task is gone"
    for key, entry in view.by_family["leases"].items():
        for name in entry.scores or {}:
            if view.state(key.partition, name) != "DISPATCHING":
                yield f"lease of {name}: its task is gone, or not in flight"


def _queue_violations(view: _View) -> Iterator[str]:
    """Check that the partition level of the due index says what the queues say."""
    for key, entry in view.by_family["queue"].items():
        project, _, place = key.name.partition("/")
        queue, _, lane = place.partition("~")
        due = entry.scores or {}
        for task_id in due:
            kept = view.hash("task", key.partition, f"{project}/{task_id}")
            if (
                kept.get("state") not in WAITING_STATES
                or kept["queue"] != queue
                or lane not in ("", kept["lane"], "!" if int(kept.get("lost", 0)) > 1 else "")
            ):
                yield f"queue {key.name}: task {task_id} does not wait in it"
        head = min(due.values())
        score = view.scores("due", key.partition).get(key.name)
        # A queue that is ready keeps its place in the row of those that are; it is never looked at early,
        # and never later than its first task is due.
        if score is None or not head <= score <= max(head, view.now_ms):
            yield f"queue {key.name}: looked at {score}, but its first task is due at {head}"
    for key, entry in view.by_family["due"].items():
        for name in entry.scores or {}:
            if not view.scores("queue", key.partition, name):
                yield f"queue {name}: empty, and looked at"


def _index_violations(view: _View) -> Iterator[str]:
    """Check that an index entry has a task, or one that expired and is swept next."""
    for key, entry in view.by_family["index"].items():
        for task_id in entry.scores or {}:
            name = f"{key.name}/{task_id}"
            swept_ms = view.scores("ended", key.partition).get(name, view.now_ms + 1)
            if view.state(key.partition, name) is None and swept_ms > view.now_ms:
                yield f"index: {name} is gone, and nothing will sweep it"
    for key, entry in view.by_family["ended"].items():
        for name, at_ms in (entry.scores or {}).items():
            if view.state(key.partition, name) is None and at_ms > view.now_ms:
                yield f"ended: {name} is gone before it expires"


def _quota_violations(view: _View) -> Iterator[str]:
    live: Counter[str] = Counter()
    for key in view.by_family["task"]:
        if view.state(key.partition, key.name) not in TERMINAL_STATES:
            live[key.name.partition("/")[0]] += 1
    projects = {key.name: view.hash("project", key.partition, key.name) for key in view.by_family["project"]}
    for project, kept in projects.items():
        if int(kept["taskInQueue"]) != live[project]:
            yield f"project {project}: taskInQueue is {kept['taskInQueue']}, {live[project]} are live"
    for project in live.keys() - projects.keys():
        yield f"project {project}: gone, with live tasks"


def _project_violations(view: _View) -> Iterator[str]:
    """Check that nothing is left of projects that are gone, and that nothing opens those that are closed."""
    projects = {key.name: view.hash("project", key.partition, key.name) for key in view.by_family["project"]}
    for family in ("credentials", "index", "feed", "task", "queue", "request"):
        for key in view.by_family[family]:
            if key.name.partition("/")[0] not in projects:
                yield f"{family} {key.name}: its project is gone"
    for entry in view.by_family["email"].values():
        if entry.text.decode() not in projects:
            yield f"email of project {entry.text.decode()}, which is gone"
    closed = {member.decode() for entry in view.by_family["closed"].values() for member in entry.items or ()}
    if closed != {project for project, kept in projects.items() if "closed" in kept}:
        yield f"closed are {sorted(closed)}, which the projects do not say"
    for key in view.by_family["credentials"]:
        if key.name in closed:
            yield f"project {key.name}: closed, with credentials"


def _feed_violations(view: _View) -> Iterator[str]:
    """Check that the feed of each project has what the timelines of its tasks have, for as far as it goes."""
    told = {key: feeds.parse(entry.items or ()) for key, entry in view.by_family["feed"].items()}
    for key, entries in told.items():
        events = view.hash("project", key.partition, key.name).get("events", "0")
        for fault in feeds.number_faults(entries, int(events)):
            yield f"feed {key.name}: {fault}"
    for key in view.by_family["task"]:
        project, _, task_id = key.name.partition("/")
        entries = told.get(_Key("feed", key.partition, project), [])
        kept, in_feed = list(view.timeline(key)), feeds.lines_of(entries, task_id)
        if kept:
            kept = kept[-len(timelines.newest(timelines.parse(kept))) :]
        if entries and entries[0].first_number > 1:
            kept = kept[max(0, len(kept) - len(in_feed)) :]  # what is older was trimmed off the feed
        if kept and b'"UNREADABLE"' in kept[-1]:
            kept, in_feed = kept[1:], in_feed[1:]  # the first may have waited in a record that was damaged
        if entries and kept != in_feed[max(0, len(in_feed) - len(kept)) :]:
            yield f"task {key.name}: its project's feed tells {in_feed}, its timeline {kept}"
