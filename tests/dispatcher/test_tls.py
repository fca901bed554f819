"""TLS, with certificates made for the test."""

import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from kuueri_grpc.dispatcher import GuardedTransport, HttpDispatcher
from kuueri_grpc.domain.target_policy import TargetPolicy
from kuueri_grpc.domain.timeline import Reason
from tests.dispatcher.sending import LOOPBACK, FixedClock, delivery, dispatching
from tests.dispatcher.targets import Connection, answer, answering, serving


@pytest.fixture
async def trusting(client_tls: ssl.SSLContext) -> AsyncIterator[HttpDispatcher]:
    """A dispatcher that trusts the test's authority."""
    async with dispatching(LOOPBACK, tls=client_tls) as dispatcher:
        yield dispatcher


async def test_a_trusted_certificate_and_a_kept_connection(
    trusting: HttpDispatcher, server_tls: ssl.SSLContext
) -> None:
    async with serving(answering(answer(body=b"ok")), tls=server_tls) as target:
        for _ in range(2):
            outcome = await trusting.send(delivery(target.url(host="localhost", scheme="https")))
            assert outcome.succeeded

    assert target.connections == 1


@pytest.mark.parametrize("trusted", [False, True])
async def test_by_default_certificates_are_checked_and_operators_can_name_their_own_authority(
    server_tls: ssl.SSLContext, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, *, trusted: bool
) -> None:
    with authority.cert_pem.tempfile() as file:
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", file)
        else:
            monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        dispatcher = HttpDispatcher(GuardedTransport(TargetPolicy([LOOPBACK])), FixedClock())
    async with serving(answering(answer()), tls=server_tls) as target:
        outcome = await dispatcher.send(delivery(target.url(host="localhost", scheme="https")))
    await dispatcher.aclose()

    if trusted:
        assert outcome.succeeded
    else:
        assert (outcome.status_code, outcome.reason) == (None, Reason.TLS)
        assert outcome.detail == "unable to get local issuer certificate"
        assert not target.received


async def test_a_certificate_for_another_name(trusting: HttpDispatcher, server_tls: ssl.SSLContext) -> None:
    async with serving(answering(answer()), tls=server_tls) as target:
        outcome = await trusting.send(delivery(target.url(scheme="https")))

    assert outcome.reason is Reason.TLS
    assert "certificate is not valid for '127.0.0.1'" in outcome.detail
    assert not target.received


@pytest.mark.parametrize("common_name", ["localhost", "other.example"])
async def test_a_common_name_is_no_name(
    trusting: HttpDispatcher, authority: trustme.CA, common_name: str
) -> None:
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", common_name=common_name).configure_cert(server_tls)
    async with serving(answering(answer()), tls=server_tls) as target:
        outcome = await trusting.send(delivery(target.url(host="localhost", scheme="https")))
        by_number = await trusting.send(delivery(target.url(scheme="https")))

    assert outcome.reason is Reason.TLS
    assert by_number.succeeded


async def test_a_target_that_does_not_speak_tls(trusting: HttpDispatcher) -> None:
    async def answer_plainly(connection: Connection) -> None:
        await connection.reader.read(1)
        await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await connection.wait_lost()

    async with serving(answer_plainly) as target:
        outcome = await trusting.send(delivery(target.url(scheme="https")))

    assert (outcome.status_code, outcome.reason) == (None, Reason.TLS)
    assert outcome.detail == "wrong version number"


async def test_a_connection_dropped_in_the_handshake(trusting: HttpDispatcher) -> None:
    async def drop(connection: Connection) -> None:
        await connection.reader.read(1)
        connection.writer.transport.abort()

    async with serving(drop) as target:
        outcome = await trusting.send(delivery(target.url(scheme="https")))

    assert (outcome.status_code, outcome.reason) == (None, Reason.TLS)
    assert outcome.detail == "connection closed during the handshake"


async def test_a_handshake_that_hangs_obeys_the_deadline(trusting: HttpDispatcher) -> None:
    async def hang(connection: Connection) -> None:
        await connection.wait_lost()

    async with serving(hang) as target:
        outcome = await trusting.send(delivery(target.url(scheme="https"), timeout_ms=100))

    assert (outcome.status_code, outcome.reason) == (None, Reason.TIMEOUT)
