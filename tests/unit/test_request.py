from dataclasses import replace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.dispatcher.message import Request
from kuueri_grpc.dispatcher.request import build_request
from kuueri_grpc.dispatcher.url import parse, target_of
from kuueri_grpc.domain.task import HttpMethod, HttpTarget
from kuueri_grpc.ports import Delivery

NOW_MS = 1_767_225_600_123
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

FIRST = Delivery(
    project_id="p1",
    task_id="task-1",
    attempt=1,
    retry_count=0,
    retry_limit=3,
    repeat_count=0,
    repeat_limit=2,
    schedule_time_ms=NOW_MS,
    create_time_ms=NOW_MS,
    timeout_ms=1_000,
    target=HttpTarget("https://example.com/hook", body=b"{}"),
)


def built(delivery: Delivery) -> Request:
    return build_request(delivery, target_of(delivery.target), NOW_MS)


def headers(delivery: Delivery) -> dict[str, str]:
    return {name.decode().lower(): value.decode() for name, value in built(delivery).headers}


def kuueri(delivery: Delivery) -> dict[str, str]:
    prefix = "x-kuueri-tasks-"
    found = {k.removeprefix(prefix): v for k, v in headers(delivery).items() if k.startswith(prefix)}
    assert found.pop("schedule-time") == "2026-01-01T00:00:00.123Z"
    return found


def test_a_first_attempt() -> None:
    request = built(FIRST)

    assert (request.method, request.target.url) == ("POST", "https://example.com/hook")
    assert request.body == b"{}"
    assert headers(FIRST) == {
        "host": "example.com",
        "user-agent": "Kuueri-Tasks",
        "content-type": "application/json",
        "accept": "application/json",
        "x-kuueri-tasks-attempt": "1",
        "x-kuueri-tasks-schedule-time": "2026-01-01T00:00:00.123Z",
        "content-length": "2",
    }


@pytest.mark.parametrize(
    ("retry", "repeat", "expected"),
    [
        ((0, 3), (0, 2), {}),
        ((1, 3), (0, 2), {"queue": "task-1", "retry-count": "1", "currently-retry": "true"}),
        ((2, 3), (0, 0), {"queue": "task-1", "retry-count": "2", "currently-retry": "true"}),
        ((3, 3), (0, 0), {"queue": "task-1", "retry-count": "3", "currently-retry": "false"}),
        ((0, 3), (1, 2), {"queue": "task-1", "repeat-count": "1", "currently-repeat": "true"}),
        ((0, 0), (2, 2), {"queue": "task-1", "repeat-count": "2", "currently-repeat": "false"}),
        (
            (3, 3),
            (1, 2),
            {
                "queue": "task-1",
                "retry-count": "3",
                "currently-retry": "false",
                "repeat-count": "1",
                "currently-repeat": "true",
            },
        ),
    ],
)
def test_retries_and_repetitions_say_so(
    retry: tuple[int, int], repeat: tuple[int, int], expected: dict[str, str]
) -> None:
    delivery = replace(
        FIRST,
        attempt=7,
        retry_count=retry[0],
        retry_limit=retry[1],
        repeat_count=repeat[0],
        repeat_limit=repeat[1],
    )

    assert kuueri(delivery) == {"attempt": "7", **expected}


@pytest.mark.parametrize(
    ("instant_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
        (1_767_225_600_007, "2026-01-01T00:00:00.007Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_the_schedule_time_is_exact_to_the_millisecond(instant_ms: int, text: str) -> None:
    delivery = replace(FIRST, schedule_time_ms=instant_ms)

    assert headers(delivery)["x-kuueri-tasks-schedule-time"] == text


def test_the_task_overrides_the_defaults_but_not_the_user_agent() -> None:
    own = {"CONTENT-TYPE": "text/csv", "accept": "*/*", "User-Agent": "mine", "X-Own": "größe"}
    sent = built(replace(FIRST, target=replace(FIRST.target, headers=own))).headers

    def of(wanted: bytes) -> list[bytes]:
        return [value for name, value in sent if name.lower() == wanted]

    assert of(b"content-type") == [b"text/csv"]
    assert of(b"accept") == [b"*/*"]
    assert of(b"user-agent") == [b"Kuueri-Tasks"]
    assert (b"X-Own", "größe".encode()) in sent


@pytest.mark.parametrize("method", list(HttpMethod))
def test_content_length(method: HttpMethod) -> None:
    length = headers(replace(FIRST, target=HttpTarget("http://h/", method))).get("content-length")
    assert length == ("0" if method in {HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH} else None)


@pytest.mark.parametrize(
    ("url", "params", "expected"),
    [
        ("http://h/p", {"a": "1"}, "http://h/p?a=1"),
        ("http://h", {"a": "1"}, "http://h?a=1"),
        ("http://h/p?x=%20+y&flag", {"a": "1"}, "http://h/p?x=%20+y&flag&a=1"),
        ("http://h/p?", {"a": "1"}, "http://h/p?a=1"),
        ("http://h/p?x=1&", {"a": "1"}, "http://h/p?x=1&a=1"),
        ("http://h/p&", {"a": "1"}, "http://h/p&?a=1"),
        ("http://h/p?x=a?b", {"a": "1"}, "http://h/p?x=a?b&a=1"),
        ("http://h/p#top", {"a": "1"}, "http://h/p?a=1"),
        ("http://h/p#a?b", {"a": "1"}, "http://h/p?a=1"),
        ("http://h/p?a=0", {"a": "1"}, "http://h/p?a=0&a=1"),
        ("http://h/p", {"a b": "c&d=e", "ü": "€"}, "http://h/p?a%20b=c%26d%3De&%C3%BC=%E2%82%AC"),
        ("http://h/p?q", {}, "http://h/p?q"),
    ],
)
def test_query_params_are_added_to_the_urls_own_query(
    url: str, params: dict[str, str], expected: str
) -> None:
    assert target_of(HttpTarget(url, query_params=params)).url == expected


@given(st.dictionaries(st.text(), st.text()))
def test_any_query_params_arrive_as_they_were(params: dict[str, str]) -> None:
    # Lone surrogates cannot be encoded, and protobuf has no such strings.
    params = {
        k.encode(errors="ignore").decode(): v.encode(errors="ignore").decode() for k, v in params.items()
    }
    url = httpx.URL(target_of(HttpTarget("http://h/p?own=1", query_params=params)).url)

    assert list(url.params.multi_items()) == [("own", "1"), *params.items()]


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("http://h/a", "http://h/b?c", True),
        ("http://h/", "http://h:80/", True),
        ("https://H/", "https://h:443/", True),
        ("http://h/", "https://h/", False),
        ("http://h/", "http://h:8080/", False),
        ("http://h/", "http://i/", False),
    ],
)
def test_origins(one: str, two: str, same: bool) -> None:
    assert (parse(one).origin == parse(two).origin) is same


_PATHS = st.text("/.~%2fF?=&a-_;:@+*()'!$, #\"<>[]{}|\\^`ü", max_size=12)


_BASES = st.sampled_from(["http://h", "https://H:8443", "http://127.0.0.1:80", "http://bücher.example"])


@given(_BASES, _PATHS)
def test_a_url_has_the_parts_that_httpx_gives_it(base: str, path: str) -> None:
    try:
        url = httpx.URL(f"{base}/{path}")
    except httpx.InvalidURL:
        with pytest.raises(httpx.InvalidURL):
            parse(f"{base}/{path}")
        return
    parts = parse(f"{base}/{path}")

    assert parts.path == url.raw_path
    assert parts.authority == url.netloc
    assert parts.host == url.raw_host.decode()
    assert parts.origin == (url.scheme, url.host, url.port)


@pytest.mark.parametrize("broken", ["v\r\nX-Injected: 1", "v\nX-Injected: 1", "v\rX", "v\0"])
def test_no_header_leaves_its_line(broken: str) -> None:
    request = built(replace(FIRST, target=replace(FIRST.target, headers={"X-Own": broken})))

    with pytest.raises(ValueError, match="line break"):
        request.wire()


def test_the_wire() -> None:
    wire = built(replace(FIRST, target=HttpTarget("http://h/a?b", body=b"\r\n{}"))).wire()

    head, _, body = wire.partition(b"\r\n\r\n")
    assert head.splitlines()[:2] == [b"POST /a?b HTTP/1.1", b"host: h"]
    assert body == b"\r\n{}"


def test_a_request_is_signed_only_with_a_secret() -> None:
    assert not any(name.startswith("webhook-") for name in headers(FIRST))

    signed = headers(replace(FIRST, signing_secrets=(SECRET,)))
    assert signed["webhook-timestamp"] == str(NOW_MS // 1_000)
    assert signed["webhook-signature"].startswith("v1,")


def test_the_webhook_id_names_the_run() -> None:
    def webhook_id(**changes: int) -> str:
        return headers(replace(FIRST, signing_secrets=(SECRET,), **changes))["webhook-id"]  # type: ignore[arg-type]

    first = webhook_id()
    assert webhook_id(retry_count=1, attempt=2) == first
    assert webhook_id(repeat_count=1, attempt=2) != first
    # A task that has the id of one that was purged.
    assert webhook_id(create_time_ms=NOW_MS + 1) != first
    # A full stop delimits what is signed.
    assert "." not in first


@pytest.mark.parametrize(
    "target",
    [
        HttpTarget("http://[::1"),
        HttpTarget("http://h/", headers={"größe": "1"}),
    ],
)
def test_what_subscribe_would_have_refused(target: HttpTarget) -> None:
    with pytest.raises((ValueError, httpx.InvalidURL)):
        built(replace(FIRST, target=target)).wire()
