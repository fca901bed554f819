"""Tokens: they lead back to where they were given out, and nowhere else."""

import base64

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.domain.errors import CursorTooOld
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import HttpTarget, Task, TaskSpec
from kuueri_grpc.ports import TaskFilter
from kuueri_grpc.service import tokens
from kuueri_grpc.service.tokens import (
    FeedPosition,
    FeedTokens,
    PageTokenInvalid,
    ResumeTokenInvalid,
    TimelinePosition,
    WatchTokens,
)

ANY = TaskFilter()
WHERE = TaskFilter(TaskState.PAUSED, "orders", {"team": "billing", "stage": "live"})
WATCH = WatchTokens("p-1", "a", "epoch-1")
ALL = FeedTokens("p-1", None, "epoch-1")
QUEUE = FeedTokens("p-1", "orders", "epoch-1")
FROM_LIST = "expected one from a ListTasks with the same filters"


def a_task(task_id: str = "a", create_time_ms: int = 5) -> Task:
    return Task("p-1", TaskSpec(task_id, HttpTarget("")), TaskState.SCHEDULED, create_time_ms)


def packed(*content: object) -> str:
    return base64.urlsafe_b64encode(msgpack.packb(content)).rstrip(b"=").decode()


@given(st.text(max_size=160), st.text("ab_-", max_size=8), st.text("ab_-", max_size=8))
def test_a_list_token_leads_back(cursor: str, project_id: str, queue: str) -> None:
    where = TaskFilter(None, queue or None, {"k": queue})
    token = tokens.list_token(project_id, where, cursor)
    assert tokens.read_list_token(token, project_id, where) == cursor


@given(st.integers(0, 10**15), st.integers(0, 10**9))
def test_a_timeline_token_leads_back(create_time_ms: int, sequence: int) -> None:
    token = tokens.timeline_token("p-1", a_task(create_time_ms=create_time_ms), sequence)
    assert tokens.read_timeline_token(token, "p-1", "a") == TimelinePosition(create_time_ms, sequence)


@given(st.integers(0, 10**15), st.integers(0, 10**9), st.integers(0, 2**32 - 1))
def test_a_resume_token_leads_back(create_time_ms: int, sequence: int, mark: int) -> None:
    token = WATCH.seal(create_time_ms, sequence, mark)
    assert WATCH.read(token) == TimelinePosition(create_time_ms, sequence, mark)


@given(st.sampled_from([ALL, QUEUE]), st.integers(0, 10**15), st.integers(0, 2**32 - 1))
def test_a_resume_token_of_many_tasks_leads_back(of: FeedTokens, number: int, mark: int) -> None:
    assert of.read(of.seal(number, mark)) == FeedPosition(number, mark)


def test_an_empty_token_is_the_start() -> None:
    assert tokens.read_list_token("", "p-1", ANY) is None
    assert tokens.read_timeline_token("", "p-1", "a") is None
    assert WATCH.read("") is None
    assert ALL.read("") is None
    assert QUEUE.read("") is None


def test_the_order_of_labels_does_not_matter() -> None:
    token = tokens.list_token("p-1", TaskFilter(labels={"a": "1", "b": "2"}), "c")
    assert tokens.read_list_token(token, "p-1", TaskFilter(labels={"b": "2", "a": "1"})) == "c"


@pytest.mark.parametrize(
    ("project_id", "where"),
    [
        ("p-2", WHERE),
        ("p-1", ANY),
        ("p-1", TaskFilter(TaskState.FAILED, WHERE.queue, WHERE.labels)),
        ("p-1", TaskFilter(WHERE.state, "other", WHERE.labels)),
        ("p-1", TaskFilter(WHERE.state, WHERE.queue, {"team": "billing"})),
        ("p-1", TaskFilter(WHERE.state, WHERE.queue, {"team": "live", "stage": "billing"})),
    ],
)
def test_a_list_token_is_refused_for_another_project_or_filter(project_id: str, where: TaskFilter) -> None:
    token = tokens.list_token("p-1", WHERE, "c")
    with pytest.raises(PageTokenInvalid) as caught:
        tokens.read_list_token(token, project_id, where)
    assert str(caught.value) == f"page_token is of another project, task or filter; {FROM_LIST}"


@pytest.mark.parametrize(("project_id", "task_id"), [("p-2", "a"), ("p-1", "b")])
def test_a_timeline_token_is_refused_for_another_project_or_task(project_id: str, task_id: str) -> None:
    token = tokens.timeline_token("p-1", a_task(), 3)
    with pytest.raises(PageTokenInvalid) as caught:
        tokens.read_timeline_token(token, project_id, task_id)
    assert str(caught.value) == (
        "page_token is of another project, task or filter; expected one from a GetTimeline of the same task"
    )


@pytest.mark.parametrize("other", [WatchTokens("p-2", "a", "epoch-1"), WatchTokens("p-1", "b", "epoch-1")])
def test_a_resume_token_is_refused_for_another_project_or_task(other: WatchTokens) -> None:
    with pytest.raises(ResumeTokenInvalid) as caught:
        other.read(WATCH.seal(5, 3, 9))
    assert str(caught.value) == (
        "resume_token is of another project, task or filter; expected one from a Watch of the same task"
    )


@pytest.mark.parametrize(
    ("given_out", "other"),
    [
        (ALL, QUEUE),
        (QUEUE, ALL),
        (QUEUE, FeedTokens("p-1", "other", "epoch-1")),
        (ALL, FeedTokens("p-2", None, "epoch-1")),
        (QUEUE, FeedTokens("p-2", "orders", "epoch-1")),
    ],
)
def test_a_resume_token_of_many_tasks_is_refused_for_others(given_out: FeedTokens, other: FeedTokens) -> None:
    with pytest.raises(ResumeTokenInvalid) as caught:
        other.read(given_out.seal(3, 9))
    assert str(caught.value) == (
        "resume_token is of another project, task or filter; expected one from a Watch of the same queue, "
        "or of all"
    )


@pytest.mark.parametrize(
    ("of", "token"),
    [
        (WatchTokens("p-1", "a", "epoch-2"), WATCH.seal(5, 3, 9)),
        (FeedTokens("p-1", None, "epoch-2"), ALL.seal(3, 9)),
        (FeedTokens("p-1", "orders", "epoch-2"), QUEUE.seal(3, 9)),
    ],
)
def test_a_resume_token_from_before_the_data_was_lost_is_too_old(
    of: WatchTokens | FeedTokens, token: str
) -> None:
    with pytest.raises(CursorTooOld) as caught:
        of.read(token)
    assert str(caught.value) == (
        "resume_token is from before the store lost its data; watch again without a token"
    )


def test_a_token_of_another_call_is_refused() -> None:
    page = tokens.timeline_token("p-1", a_task(), 3)
    with pytest.raises(ResumeTokenInvalid, match=r"^resume_token is of another call; "):
        WATCH.read(page)
    with pytest.raises(ResumeTokenInvalid, match=r"^resume_token is of another call; "):
        WATCH.read(ALL.seal(3, 9))
    with pytest.raises(ResumeTokenInvalid, match=r"^resume_token is of another call; "):
        ALL.read(WATCH.seal(5, 3, 9))
    with pytest.raises(PageTokenInvalid, match=r"^page_token is of another call; "):
        tokens.read_timeline_token(WATCH.seal(5, 3, 9), "p-1", "a")
    with pytest.raises(PageTokenInvalid, match=r"^page_token is of another call; "):
        tokens.read_list_token(page, "p-1", ANY)


def test_a_token_of_another_version_is_refused() -> None:
    with pytest.raises(PageTokenInvalid, match=r"^page_token is of another version of the service; "):
        tokens.read_list_token(packed(2, "list", b"12345678", ["c"]), "p-1", ANY)


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "hello",
        "a b",
        "ä" * 8,
        "=" * 8,
        "A" * 10_000,
        packed(),
        packed(1),
        packed(1, "list"),
        packed(1, "list", "text", ["c"]),
        packed(1, "list", b"12345678", "c"),
        packed("1", "list", b"12345678", ["c"]),
        packed({"a": 1}),
        base64.urlsafe_b64encode(b"\xc1\xc1\xc1").decode(),
        base64.urlsafe_b64encode(msgpack.packb([1]) + b"more").decode().rstrip("="),
        base64.urlsafe_b64encode(b"\xdd\xff\xff\xff\xff").decode().rstrip("="),
    ],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(PageTokenInvalid) as caught:
        tokens.read_list_token(token, "p-1", ANY)
    assert str(caught.value) == f"page_token is no token; {FROM_LIST}"


def test_a_token_is_refused_in_any_spelling_but_its_own() -> None:
    raw = base64.urlsafe_b64decode(WATCH.seal(1, 1, 1) + "==")
    assert raw[1] == 1  # the version, which equals True
    with pytest.raises(ResumeTokenInvalid):
        WATCH.read(base64.urlsafe_b64encode(raw[:1] + b"\xc3" + raw[2:]).decode().rstrip("="))


@given(st.data())
def test_an_altered_token_is_refused(data: st.DataObject) -> None:
    token = WATCH.seal(1_700_000_000_000, 41, 2**32 - 1)
    raw = bytearray(base64.urlsafe_b64decode(token + "=="))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ResumeTokenInvalid):
        WATCH.read(base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("="))


@given(st.text(max_size=80))
def test_any_text_is_refused_as_no_token(token: str) -> None:
    with pytest.raises(PageTokenInvalid):
        tokens.read_timeline_token(token or "x", "p-1", "a")


def test_the_place_of_a_later_task_with_the_same_id_is_another_place() -> None:
    position = TimelinePosition(create_time_ms=5, sequence=3)
    assert position.is_of(a_task(create_time_ms=5))
    assert not position.is_of(a_task(create_time_ms=6))
    assert str(tokens.replaced("a")) == (
        "the token is of an earlier task 'a', which was purged; start again without a token"
    )


def test_tokens_are_made_of_url_safe_characters() -> None:
    token = tokens.list_token("p-1", WHERE, "\xff" * 30)
    assert token.replace("-", "").replace("_", "").isalnum()
