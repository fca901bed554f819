"""What is written is read back, whatever a client may have asked for."""

import json
import re

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import Attempt, HttpMethod, HttpTarget, RetryPolicy, Schedule, Task, TaskSpec
from kuueri_grpc.domain.timeline import EventType, Reason, TimelineEvent
from kuueri_grpc.ports import FeedEvent
from kuueri_grpc.store import codec
from tests.unit.domain.strategies import instants_ms, repeat_policies, retry_policies, waits_ms

texts = st.text(max_size=30)
maps = st.dictionaries(texts, texts, max_size=4)

targets = st.builds(
    HttpTarget,
    url=texts,
    method=st.sampled_from(HttpMethod),
    headers=maps,
    query_params=maps,
    body=st.binary(max_size=200),
    follow_redirects=st.booleans(),
)
schedules = st.builds(
    Schedule,
    at_ms=st.none() | instants_ms,
    delay_ms=st.none() | waits_ms,
    start_deadline_ms=st.none() | waits_ms,
)
specs = st.builds(
    TaskSpec,
    task_id=st.text("abc-_09", min_size=1, max_size=128),
    target=targets,
    queue=st.text("abc-_09", min_size=1, max_size=20),
    schedule=schedules,
    retry=retry_policies,
    repeat=repeat_policies,
    attempt_timeout_ms=waits_ms,
    labels=maps,
)


def flat(fields: dict[str, object]) -> list[bytes]:
    """Return a hash as a script does."""
    return [
        part
        for name, value in fields.items()
        for part in (name.encode(), value if isinstance(value, bytes) else str(value).encode())
    ]


def config_of(spec: TaskSpec) -> dict[str, object]:
    config: dict[str, object] = {
        "request": codec.pack_request(spec.target),
        "policy": codec.pack_policy(spec),
    }
    labels = codec.pack_labels(spec.labels)
    return {**config, "labels": labels} if labels else config


def unsealed(_project_id: str, _task_id: str, kept: bytes) -> HttpTarget:
    return codec.unpack_request(kept)


def read(spec: TaskSpec, **kept: object) -> Task:
    fields = {"state": "SCHEDULED", "queue": spec.queue, "create": 1, "due": 2, "seq": 1, **kept}
    return codec.task("project", spec.task_id, [flat(fields), flat(config_of(spec))], unsealed)


@given(targets)
def test_requests(target: HttpTarget) -> None:
    assert codec.unpack_request(codec.pack_request(target)) == target


@given(specs)
def test_policies(spec: TaskSpec) -> None:
    assert codec.unpack_policy(codec.pack_policy(spec)) == (
        spec.attempt_timeout_ms,
        spec.schedule,
        spec.retry,
        spec.repeat,
    )


@given(specs)
def test_whole_tasks(spec: TaskSpec) -> None:
    assert read(spec) == Task("project", spec, TaskState.SCHEDULED, create_time_ms=1, schedule_time_ms=2)


@pytest.mark.parametrize("part", [codec.unpack_request, codec.unpack_policy])
@pytest.mark.parametrize("blob", [b"", b"\xc1", b"\x93\x01", b"garbage that is longer"])
def test_what_is_not_messagepack(part: object, blob: bytes) -> None:
    with pytest.raises(codec.CorruptRecord, match="is not MessagePack"):
        part(blob)  # type: ignore[operator]


@pytest.mark.parametrize("blob", [b"\x05", b"\x80", b"\x90", b"\xc0", b"\xa1x"])
def test_what_is_messagepack_of_something_else(blob: bytes) -> None:
    with pytest.raises(codec.CorruptRecord):
        codec.unpack_request(blob)


TARGET = HttpTarget("https://t")
REQUEST: tuple[object, ...] = (codec.FORMAT, "https://t", "PUT", {}, {}, b"", False)
RETRY, REPEAT = (3, (1, "LINEAR", None, 0.5), None, None, ()), (0, None, None)
POLICY: tuple[object, ...] = (codec.FORMAT, 300_000, (None, None, None), RETRY, REPEAT)


def without_each(record: tuple[object, ...]) -> list[bytes]:
    """Return the record with a field too few, too many, and with each field of a wrong type or value."""
    spoilt = [record[:-1], (*record, 0)]
    spoilt += [(*record[:n], 1.5, *record[n + 1 :]) for n in range(1, len(record))]
    return [msgpack.packb(values) for values in spoilt]


@pytest.mark.parametrize("blob", without_each(REQUEST))
def test_a_request_of_other_fields(blob: bytes) -> None:
    assert codec.unpack_request(msgpack.packb(REQUEST)).url == "https://t"
    with pytest.raises(codec.CorruptRecord, match="other fields than a request"):
        codec.unpack_request(blob)


@pytest.mark.parametrize(
    "blob",
    [
        *without_each(POLICY),
        *(
            msgpack.packb((*POLICY[:3], retry, REPEAT))
            for retry in (RETRY[:4], (*RETRY, 0), (None, *RETRY[1:]))
        ),
        msgpack.packb((*POLICY[:3], (3, (1, "SIDEWAYS", None, 0.5), None, None, ()), REPEAT)),
        msgpack.packb((*POLICY[:3], (3, (1, "LINEAR"), None, None, ()), REPEAT)),
        msgpack.packb((*POLICY[:4], (0, None))),
        msgpack.packb((codec.POLICY_FORMAT, None, None, None, None, None)),
        *(msgpack.packb((codec.POLICY_FORMAT, *(None,) * n, "x")) for n in range(4)),
    ],
)
def test_a_policy_of_other_fields(blob: bytes) -> None:
    assert codec.unpack_policy(msgpack.packb(POLICY))[0] == 300_000
    with pytest.raises(codec.CorruptRecord, match="other fields than a policy"):
        codec.unpack_policy(blob)


@pytest.mark.parametrize(
    ("blob", "spec"),
    [
        ("9501ce000493e093c0c0c09500c0c0c0909300c0c0", TaskSpec("t", TARGET)),
        (
            "9501ce000493e093c005c09503c0c0c0909300c0c0",
            TaskSpec("t", TARGET, retry=RetryPolicy(3), schedule=Schedule(delay_ms=5)),
        ),
    ],
    ids=["defaults", "a retry and a delay"],
)
def test_policies_of_the_first_format_are_read(blob: str, spec: TaskSpec) -> None:
    """They have every part, whatever is in it."""
    assert codec.unpack_policy(bytes.fromhex(blob)) == codec.unpack_policy(codec.pack_policy(spec))


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (TaskSpec("t", TARGET), 2),
        (TaskSpec("t", TARGET, schedule=Schedule(at_ms=1_700_000_000_000)), 12),
        (TaskSpec("t", TARGET, attempt_timeout_ms=5), 3),
    ],
    ids=["nothing asked for", "an instant", "a time-out"],
)
def test_a_policy_takes_what_was_asked_for(spec: TaskSpec, size: int) -> None:
    assert len(codec.pack_policy(spec)) == size


def test_a_policy_that_is_missing() -> None:
    with pytest.raises(codec.CorruptRecord, match="a task's policy is missing"):
        codec.unpack_policy(None)


@pytest.mark.parametrize("part", [codec.unpack_request, codec.unpack_policy])
def test_a_map_with_a_list_for_a_key(part: object) -> None:
    with pytest.raises(codec.CorruptRecord, match="is not MessagePack"):
        part(b"\x81\x90\x01")  # type: ignore[operator]


def test_a_later_version_s_record_names_the_versions() -> None:
    blob = msgpack.packb((codec.FORMAT + 1, "url"))

    with pytest.raises(codec.CorruptRecord, match=re.escape("request has format 2; this version reads 1")):
        codec.unpack_request(blob)


def test_records_of_this_version_can_be_read_for_ever() -> None:
    """Bytes as they are in stores today: a change of the packing must read them, or raise the format."""
    target = HttpTarget("https://t", HttpMethod.PUT, {"a": "b"}, {}, b"hi", False)
    assert codec.pack_request(target).hex() == ("9701a968747470733a2f2f74a350555481a161a16280c4026869c2")
    spec = TaskSpec("t", target, retry=RetryPolicy(3), schedule=Schedule(delay_ms=5))
    assert codec.pack_policy(spec).hex() == "9402c093c005c09503c0c0c090"


class TestSnapshots:
    SPEC = TaskSpec("t", HttpTarget("https://t"))

    def test_counters_default_to_zero(self) -> None:
        task = read(self.SPEC)

        assert (task.attempt_count, task.retry_count, task.repeat_count) == (0, 0, 0)
        assert (task.end_time_ms, task.last_attempt) == (None, None)

    def test_a_field_that_was_emptied_is_absent(self) -> None:
        task = read(self.SPEC, state="PAUSED", due="", end="", labels="")

        assert (task.schedule_time_ms, task.end_time_ms) == (None, None)

    @pytest.mark.parametrize(
        ("status", "reason", "expected"),
        [
            ("200", "", Attempt(3, 40, 5, 200, None)),
            ("500", "HTTP_STATUS", Attempt(3, 40, 5, 500, Reason.HTTP_STATUS)),
            ("", "TIMEOUT", Attempt(3, 40, 5, None, Reason.TIMEOUT)),
        ],
    )
    def test_the_last_attempt(self, status: str, reason: str, expected: Attempt) -> None:
        task = read(self.SPEC, last=3, last_at=40, last_ms=5, last_status=status, last_reason=reason)

        assert task.last_attempt == expected


class TestEvents:
    def test_everything(self) -> None:
        line = json.dumps(
            {
                "n": 7,
                "t": 9,
                "e": "ERRORED",
                "a": 2,
                "s": 500,
                "l": 3,
                "r": "HTTP_STATUS",
                "x": 11,
                "d": "why",
            }
        )

        assert codec.event("t", line.encode()) == TimelineEvent(
            "t", 7, 9, EventType.ERRORED, 2, 500, 3, Reason.HTTP_STATUS, 11, "why"
        )

    def test_only_what_there_is(self) -> None:
        event = codec.event("t", b'{"n":1,"t":2,"e":"PAUSED"}')

        assert event == TimelineEvent("t", 1, 2, EventType.PAUSED)


class TestFeedEntries:
    def test_the_events_of_one_change_are_numbered_up_to_the_last(self) -> None:
        entry = [
            b"orders/a-1",
            b'{"n":4,"t":9,"e":"SUCCEEDED","a":1}',
            b"orders/a-1",
            b'{"n":5,"t":9,"e":"COMPLETED","a":1}',
            b"default/b",
            b'{"n":1,"t":9,"e":"SUBSCRIBED","x":7}',
        ]

        assert codec.feed_entry(12, entry) == [
            FeedEvent(10, "orders", TimelineEvent("a-1", 4, 9, EventType.SUCCEEDED, 1)),
            FeedEvent(11, "orders", TimelineEvent("a-1", 5, 9, EventType.COMPLETED, 1)),
            FeedEvent(12, "default", TimelineEvent("b", 1, 9, EventType.SUBSCRIBED, next_time_ms=7)),
        ]

    def test_the_first_event_of_a_project(self) -> None:
        (event,) = codec.feed_entry(1, [b"q/t", b'{"n":1,"t":2,"e":"SUBSCRIBED"}'])

        assert (event.number, event.queue, event.event.task_id) == (1, "q", "t")


class TestLabels:
    @given(maps)
    def test_they_are_read_as_they_were(self, labels: dict[str, str]) -> None:
        packed = codec.pack_labels(labels)

        assert (json.loads(packed) if packed else {}) == labels

    @given(maps)
    def test_what_to_look_for(self, labels: dict[str, str]) -> None:
        parts = json.loads(codec.pack_pairs(labels))

        assert dict(zip(parts[::2], parts[1::2], strict=True)) == labels


class TestSigning:
    @given(st.lists(st.tuples(texts, st.none() | instants_ms), max_size=4))
    def test_secrets_are_read_as_they_were(self, secrets: list[tuple[str, int | None]]) -> None:
        assert codec.unpack_signing(codec.pack_signing(secrets).encode()) == secrets
