"""What a target answers, and what it finds out about the requests."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from kuueri_grpc.cli.target.answers import Answers, Script, parse_script
from kuueri_grpc.cli.target.order import Order, OrderCheck
from kuueri_grpc.cli.target.server import Received, task_of
from kuueri_grpc.cli.target.signature import SignatureError, parse_secret, verify

Run = Callable[..., tuple[int, str, str]]

# --- answers ----------------------------------------------------------------------------------


def test_a_script() -> None:
    script = parse_script("500, drop,200")
    assert script == Script((500, None, 200))
    assert str(script) == "500, drop, 200"


@pytest.mark.parametrize("text", ["", "500,", "x", "199", "600", "-200", "2e2", "DROP"])
def test_what_is_no_script(text: str) -> None:
    with pytest.raises(ValueError, match="is not a status of 200 to 599, nor 'drop'"):
        parse_script(text)


def test_the_last_answer_stays() -> None:
    answers = Answers(Script((500, None, 200)), per_task=False)
    assert [answers.next(task) for task in ("a", "b", "a", "b", "a")] == [500, None, 200, 200, 200]


def test_each_task_has_the_answers_to_itself() -> None:
    answers = Answers(Script((500, 200)), per_task=True)
    assert [answers.next(task) for task in ("a", "b", "a", "b", "a")] == [500, 500, 200, 200, 200]


# --- order ------------------------------------------------------------------------------------


def test_how_attempts_come() -> None:
    check = OrderCheck()
    came = [check.record("a", attempt) for attempt in (1, 2, 2, 5, 4, 6, 1)]
    assert came == [
        Order.NEXT,
        Order.NEXT,
        Order.DUPLICATE,
        Order.GAP,
        Order.LATE,
        Order.NEXT,
        Order.DUPLICATE,
    ]
    assert check.missing == 1
    assert check.counts == {Order.NEXT: 3, Order.DUPLICATE: 2, Order.GAP: 1, Order.LATE: 1}


def test_tasks_do_not_disturb_each_other() -> None:
    check = OrderCheck()
    assert {check.record(task, attempt) for attempt in (1, 2) for task in ("a", "b")} == {Order.NEXT}
    assert (check.tasks, check.missing) == (2, 0)


def test_a_first_attempt_that_is_not_the_first_leaves_a_gap() -> None:
    check = OrderCheck()
    assert check.record("a", 1_000_000_000) is Order.GAP
    assert check.missing == 999_999_999


@given(st.permutations(range(1, 8)))
def test_once_all_have_come_none_is_missing(attempts: list[int]) -> None:
    check = OrderCheck()
    for attempt in attempts:
        check.record("a", attempt)
    assert check.missing == 0
    assert check.counts[Order.DUPLICATE] == 0
    assert (check.counts[Order.LATE] == 0) == (attempts == sorted(attempts))


# --- signature --------------------------------------------------------------------------------

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
NOW_S = 1_767_225_600.0


def signed(secret: str, body: str, at_s: float = NOW_S) -> dict[str, str]:
    """Headers as the reference implementation signs."""
    signature = Webhook(secret).sign("task_0", datetime.fromtimestamp(at_s, tz=UTC), body)
    return {"webhook-id": "task_0", "webhook-timestamp": str(int(at_s)), "webhook-signature": signature}


@pytest.mark.parametrize("body", ["", "{}", "ünïcode\n"])
def test_what_the_reference_implementation_signs_is_valid(body: str) -> None:
    verify([parse_secret(SECRET)], signed(SECRET, body), body.encode(), NOW_S)


def test_one_of_several_signatures_and_secrets_is_enough() -> None:
    headers = signed(SECRET, "x")
    headers["webhook-signature"] = (
        f"v1a,other {signed(OTHER, 'x')['webhook-signature']} {headers['webhook-signature']}"
    )
    verify([parse_secret(SECRET)], headers, b"x", NOW_S)
    verify([parse_secret(SECRET), parse_secret(OTHER)], signed(OTHER, "x"), b"x", NOW_S)


def test_bytes_that_are_no_text_can_be_signed() -> None:
    with pytest.raises(SignatureError, match="another secret"):
        verify([parse_secret(SECRET)], signed(SECRET, "x"), b"\xff\x00", NOW_S)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"webhook-signature": ""}, "not signed"),
        ({"webhook-id": ""}, "not signed"),
        ({"webhook-id": "task_1"}, "another secret"),
        ({"webhook-signature": "v1,AAAA"}, "another secret"),
        ({"webhook-signature": "v1,\u00e9"}, "another secret"),
        ({"webhook-timestamp": "soon"}, "its time is not a number"),
        ({"webhook-timestamp": str(int(NOW_S) - 301)}, "more than 300 s off"),
        ({"webhook-timestamp": str(int(NOW_S) + 301)}, "more than 300 s off"),
        ({"webhook-timestamp": str(int(NOW_S) + 1)}, "another secret"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, str], message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        verify([parse_secret(SECRET)], signed(SECRET, "x") | change, b"x", NOW_S)


def test_another_body_or_secret_is_found_out() -> None:
    with pytest.raises(SignatureError, match="another secret"):
        verify([parse_secret(SECRET)], signed(SECRET, "x"), b"y", NOW_S)
    with pytest.raises(SignatureError, match="another secret"):
        verify([parse_secret(OTHER)], signed(SECRET, "x"), b"x", NOW_S)


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_!", SECRET.removeprefix("whsec_"), "whsec_abc"])
def test_what_is_no_secret_is_refused_and_not_repeated(run: Run, text: str) -> None:
    with pytest.raises(ValueError, match="not a signing secret"):
        parse_secret(text)
    if text:
        code, _, err = run("target", "--secret", text, "--json")
        assert code == 2
        message = json.loads(err)["error"]["message"]
        assert message == "--secret: not a signing secret; expected whsec_ and base64"


# --- requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-kuueri-tasks-queue": "task", "webhook-id": "other_1767225600123_0"}, "task"),
        ({"webhook-id": "my_task_1767225600123_12"}, "my_task"),
        ({"webhook-id": "task"}, "task"),
        ({}, None),
    ],
)
def test_which_task_a_request_comes_from(headers: dict[str, str], expected: str | None) -> None:
    assert task_of(headers) == expected


def test_a_request_survives_json() -> None:
    received = Received(
        received_at_ns=1_767_225_600_123_456_789,
        method="PUT",
        path="/a",
        query={"b": ["1", "2"]},
        headers={"c": "d"},
        body=b"\x00\xff",
        status=None,
        task_id="t",
        attempt=3,
        order=Order.GAP,
        signature="valid",
    )
    document = json.loads(json.dumps(received.as_document()))
    assert document["kind"] == "request"
    assert Received.from_document(document) == received
