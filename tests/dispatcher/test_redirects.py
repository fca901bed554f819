"""Redirects: an error answer, or followed with every hop checked and credentials left behind."""

import ssl
from dataclasses import replace

import pytest

from kuueri_grpc.dispatcher import HttpDispatcher
from kuueri_grpc.domain.task import HttpMethod
from kuueri_grpc.domain.timeline import Reason
from tests.dispatcher.sending import LOOPBACK, delivery, dispatching
from tests.dispatcher.targets import answer, answering, serving

#: What one URL parser takes and another refuses.
NO_URLS = (
    *(
        "http://h:99999/",
        "//h:100000/",
        "https:",
        "https://:443/",
        "http://h:0/",
        "http://h:-1/",
        "https://h:",
    ),
    *("http://a b/", "http://a..b/", "http://%31/", "http://h:+80/", "http://1.2.3.4:80:80/"),
)
SECRETS = {"Authorization": "Bearer t", "Cookie": "session=1", "X-Api-Key": "k", "Accept-Language": "id"}


async def test_a_redirect_is_an_error_answer_unless_the_task_follows(dispatcher: HttpDispatcher) -> None:
    async with serving(answering(answer("307 Temporary Redirect", location="/other"))) as target:
        outcome = await dispatcher.send(delivery(target.url()))

    assert (outcome.status_code, outcome.reason) == (307, Reason.HTTP_STATUS)
    assert len(target.received) == 1


@pytest.mark.parametrize(
    ("status", "method", "then", "keeps_body"),
    [
        ("301 Moved", HttpMethod.POST, "GET", False),
        ("302 Found", HttpMethod.POST, "GET", False),
        ("302 Found", HttpMethod.PUT, "PUT", True),
        ("303 See Other", HttpMethod.PUT, "GET", False),
        ("303 See Other", HttpMethod.HEAD, "HEAD", False),
        ("307 Temporary Redirect", HttpMethod.POST, "POST", True),
        ("308 Permanent Redirect", HttpMethod.PATCH, "PATCH", True),
    ],
)
async def test_a_followed_redirect_keeps_or_changes_the_method(
    dispatcher: HttpDispatcher, status: str, method: HttpMethod, then: str, keeps_body: bool
) -> None:
    body = b"" if method is HttpMethod.HEAD else b"payload"
    async with serving(answering(answer(status, location="/b?c=%2F#frag"), answer("202 Ok"))) as target:
        outcome = await dispatcher.send(
            delivery(target.url("/a"), method=method, body=body, headers=SECRETS, follow_redirects=True)
        )

    assert (outcome.status_code, outcome.reason) == (202, None)
    _, second = target.received
    assert (second.method, second.path) == (then, "/b?c=%2F")
    assert second.body == (b"payload" if keeps_body else b"")
    assert ("content-type" in second.headers) == (keeps_body or method is HttpMethod.HEAD)
    assert {name.lower(): second.headers.get(name.lower()) for name in SECRETS} == {
        name.lower(): value for name, value in SECRETS.items()
    }
    assert target.connections == 1


async def test_credentials_stay_at_their_origin(dispatcher: HttpDispatcher) -> None:
    async with serving(answering(answer())) as other:
        redirect = answer("307 Temporary Redirect", location=other.url("/next"), set_cookie="a=b")
        async with serving(answering(redirect)) as target:
            outcome = await dispatcher.send(
                delivery(target.url(), headers=SECRETS, body=b"payload", follow_redirects=True)
            )

    assert outcome.succeeded
    (request,) = other.received
    assert request.body == b"payload"
    assert request.headers == {
        "host": f"127.0.0.1:{other.port}",
        "user-agent": "Kuueri-Tasks",
        "accept-language": "id",
        "content-type": "application/json",
        "accept": "application/json",
        "x-kuueri-tasks-attempt": "1",
        "x-kuueri-tasks-schedule-time": "2026-01-01T00:00:00.000Z",
        "content-length": "7",
    }


async def test_a_redirect_to_a_refused_address_is_blocked() -> None:
    async with dispatching("127.0.0.2/32") as dispatcher, serving(answering(answer())) as private:
        redirect = answer("302 Found", location=private.url("/admin"))
        async with serving(answering(redirect), host="127.0.0.2") as target:
            url = f"http://127.0.0.2:{target.port}/"
            outcome = await dispatcher.send(delivery(url, follow_redirects=True))

    assert (outcome.status_code, outcome.reason, outcome.detail) == (
        None,
        Reason.BLOCKED_ADDRESS,
        "loopback",
    )
    assert target.connections == 1
    assert private.connections == 0


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("ftp://127.0.0.1/", Reason.BLOCKED_ADDRESS),
        ("file:///etc/passwd", Reason.BLOCKED_ADDRESS),
        ("http://user:password@127.0.0.1/", Reason.BLOCKED_ADDRESS),
        ("http://2130706433/", Reason.BLOCKED_ADDRESS),
        ("http://169.254.169.254/latest/meta-data/", Reason.BLOCKED_ADDRESS),
        ("http://[::1", Reason.INVALID_RESPONSE),
        *((location, Reason.INVALID_RESPONSE) for location in NO_URLS),
        (f"http://{'ü' * 70}.example/", Reason.INVALID_RESPONSE),
    ],
)
async def test_redirects_that_lead_nowhere(
    dispatcher: HttpDispatcher, location: str, reason: Reason, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(answering(answer("302 Found", location=location))) as target:
        outcome = await dispatcher.send(delivery(target.url(), follow_redirects=True))

    assert (outcome.status_code, outcome.reason) == (None, reason)
    assert "password" not in outcome.detail
    assert not caplog.records


async def test_what_a_redirect_says_is_not_of_the_answer_that_it_leads_to(dispatcher: HttpDispatcher) -> None:
    redirect = answer("307 Temporary Redirect", location="/next", retry_after="120")
    async with serving(answering(redirect, answer("503 Busy"))) as target:
        outcome = await dispatcher.send(delivery(target.url(), follow_redirects=True))

    assert (outcome.status_code, outcome.retry_after_ms) == (503, None)


async def test_five_redirects_are_followed(dispatcher: HttpDispatcher) -> None:
    hops = [answer("302 Found", location=f"/{n}") for n in range(5)]
    async with serving(answering(*hops, answer("200 OK"))) as target:
        outcome = await dispatcher.send(delivery(target.url(), follow_redirects=True))

    assert outcome.succeeded
    assert len(target.received) == 6


async def test_a_loop_of_redirects_ends(dispatcher: HttpDispatcher) -> None:
    async with serving(answering(answer("302 Found", location="/"))) as target:
        outcome = await dispatcher.send(delivery(target.url(), follow_redirects=True))

    assert (outcome.status_code, outcome.reason) == (None, Reason.TOO_MANY_REDIRECTS)
    assert outcome.detail == "more than 5"
    assert len(target.received) == 6


@pytest.mark.parametrize(
    "response", [answer("302 Found"), answer("300 Choices", location="/"), answer("304 Same")]
)
async def test_answers_that_redirect_nowhere_are_taken_as_they_are(
    dispatcher: HttpDispatcher, response: bytes
) -> None:
    async with serving(answering(response)) as target:
        outcome = await dispatcher.send(delivery(target.url(), follow_redirects=True))

    assert outcome.reason is Reason.HTTP_STATUS
    assert outcome.status_code in {300, 302, 304}


async def test_a_redirect_with_an_endless_body_is_followed_all_the_same() -> None:
    async with (
        dispatching(LOOPBACK, max_answer_bytes=1_000) as dispatcher,
        serving(answering(answer())) as other,
    ):
        redirect = answer("302 Found", body=b"x" * 100_000, location=other.url())
        async with serving(answering(redirect)) as target:
            outcome = await dispatcher.send(delivery(target.url(), follow_redirects=True))

    assert outcome.succeeded


@pytest.mark.parametrize(("status", "is_sent"), [("307 Temporary Redirect", False), ("303 See Other", True)])
async def test_a_body_does_not_go_from_https_to_http(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, status: str, *, is_sent: bool
) -> None:
    async with (
        dispatching(LOOPBACK, tls=client_tls) as dispatcher,
        serving(answering(answer())) as plain,
    ):
        redirect = answer(status, location=plain.url(host="localhost"))
        async with serving(answering(redirect), tls=server_tls) as target:
            url = target.url(host="localhost", scheme="https")
            outcome = await dispatcher.send(delivery(url, headers=SECRETS, follow_redirects=True))

    if is_sent:
        assert outcome.succeeded
        assert not {name.lower() for name in ("Authorization", "Cookie", "X-Api-Key")} & set(
            plain.received[0].headers
        )
    else:
        assert (outcome.reason, outcome.detail) == (
            Reason.BLOCKED_ADDRESS,
            "redirect from https to http with a body",
        )
        assert not plain.connections


async def test_from_http_to_https_of_the_same_host_credentials_and_signature_go_along(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with (
        dispatching(LOOPBACK, tls=client_tls) as dispatcher,
        serving(answering(answer()), tls=server_tls) as secure,
    ):
        redirect = answer("308 Permanent Redirect", location=secure.url(host="localhost", scheme="https"))
        async with serving(answering(redirect)) as target:
            attempt = delivery(target.url(host="localhost"), headers=SECRETS, follow_redirects=True)
            signed = replace(attempt, signing_secrets=("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",))
            assert (await dispatcher.send(signed)).succeeded
            elsewhere = delivery(target.url(), headers=SECRETS, follow_redirects=True)
            assert (await dispatcher.send(elsewhere)).succeeded

    first, second = secure.received
    for name in (*SECRETS, "webhook-id", "webhook-signature", "webhook-timestamp"):
        assert name.lower() in first.headers
    assert "authorization" not in second.headers
