"""Headers: what would break the message or impersonate the service is refused, never a value repeated."""

import pytest

from kuueri_grpc.service.headers import check_headers
from kuueri_grpc.service.violations import Violation, Violations

FIELD = "task.http_target.headers"
FRAMING = "is set by the server from the URL and the body; leave it out"
HOP = "belongs to one connection and is never forwarded; leave it out"
OWN = "is set by the server; leave it out"
NO_NAME = "is no header name; expected letters, digits and !#$%&'*+-.^_`|~ alone"


def faults(headers: dict[str, str], max_bytes: int = 81_920) -> list[Violation]:
    violations = Violations()
    check_headers(headers, FIELD, max_bytes, violations)
    return list(violations.error().violations)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer abc", "Content-Type": "text/plain", "accept": "*/*"},
        {"x": ""},
        {"!#$%&'*+-.^_`|~09aZ": "tab\tand space"},
        {"x-name": "größe"},
        {"x-kuueri": "not reserved", "webhook": "not reserved", "x-webhook-id": "not reserved"},
    ],
)
def test_accepts(headers: dict[str, str]) -> None:
    assert faults(headers) == []


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("Host", FRAMING),
        ("content-length", FRAMING),
        ("Transfer-Encoding", FRAMING),
        ("Connection", HOP),
        ("Expect", "is not supported: the body is sent with the head; leave it out"),
        ("HTTP2-Settings", HOP),
        ("Keep-Alive", HOP),
        ("Proxy-Authenticate", HOP),
        ("Proxy-Authorization", HOP),
        ("Proxy-Connection", HOP),
        ("TE", HOP),
        ("Trailer", HOP),
        ("Upgrade", HOP),
        ("User-Agent", "is always Kuueri-Tasks; leave it out"),
        ("webhook-id", OWN),
        ("Webhook-Signature", OWN),
        ("webhook-", OWN),
        ("X-Kuueri-Tasks-Attempt", OWN),
        ("x-kuueri-tasks-anything", OWN),
        ("content_length", FRAMING),
        ("Transfer_Encoding", FRAMING),
        ("user_agent", "is always Kuueri-Tasks; leave it out"),
        ("webhook_signature", OWN),
        ("X_Kuueri-Tasks_Attempt", OWN),
        ("with space", NO_NAME),
        ("with:colon", NO_NAME),
        (":authority", NO_NAME),
        ("größe", NO_NAME),
        ("x\r\nhost", NO_NAME),
        ("x\x00", NO_NAME),
        ("", NO_NAME),
    ],
)
def test_refuses_a_name(name: str, fault: str) -> None:
    (violation,) = faults({name: "value"})
    assert violation.description == fault


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("a\rb", "has a control character (U+000D) at position 1 of its value"),
        ("ab\n", "has a control character (U+000A) at position 2 of its value"),
        ("\x00", "has a control character (U+0000) at position 0 of its value"),
        ("a\x1b", "has a control character (U+001B) at position 1 of its value"),
        ("a\x7f", "has a control character (U+007F) at position 1 of its value"),
    ],
)
def test_refuses_a_value(value: str, fault: str) -> None:
    assert faults({"x-note": value}) == [
        Violation(f'{FIELD}["x-note"]', f"{fault}; expected none of CR, LF, NUL and the like")
    ]


@pytest.mark.parametrize("value", [" a", "a ", "\ta", "a\t", " ", "\t", " a b "])
def test_refuses_a_value_with_blanks_around_it(value: str) -> None:
    fault = "has a value that begins or ends with a space or tab, which is no part of it; leave it out"
    assert faults({"x-note": value}) == [Violation(f'{FIELD}["x-note"]', fault)]


def test_names_the_header_and_escapes_it() -> None:
    (violation,) = faults({'x\r\n"evil"': "v"})
    assert violation.field == FIELD + '["x\\r\\n\\"evil\\""]'


def test_refuses_names_that_differ_in_case_alone() -> None:
    assert faults({"X-Note": "a", "x-note": "b"}) == [
        Violation(
            f'{FIELD}["x-note"]', "differs from 'X-Note' in letter case alone, which does not count; keep one"
        )
    ]


def test_reports_every_header_at_once() -> None:
    found = faults({"host": "a", "x": "\n", "te": "trailers", "ok": "ok"})
    assert [violation.field for violation in found] == [
        f'{FIELD}["host"]',
        f'{FIELD}["x"]',
        f'{FIELD}["te"]',
    ]


def test_bounds_names_and_values_together_in_bytes() -> None:
    assert faults({"x": "a" * 9}, max_bytes=10) == []
    assert faults({"x": "ä" * 5}, max_bytes=10) == [
        Violation(FIELD, "have 11 bytes of names and values; at most 10 are allowed")
    ]


def test_never_repeats_a_value() -> None:
    for headers in ({"x": "hunter2\n"}, {"host": "hunter2"}, {"x": "hunter2" * 20}):
        assert "hunter2" not in str(faults(headers, max_bytes=20))
