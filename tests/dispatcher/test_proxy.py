"""Through a proxy nothing changes but the way: it is told addresses that were checked here, and no names."""

import base64
import ssl

import pytest

from kuueri_grpc.dispatcher import EgressProxy
from kuueri_grpc.dispatcher.resolver import GuardedResolver
from kuueri_grpc.domain.timeline import Reason
from tests.dispatcher.proxies import proxying
from tests.dispatcher.sending import LOOPBACK, delivery, dispatching
from tests.dispatcher.targets import answer, answering, serving
from tests.dispatcher.test_guarding import Zone

CLOSING = answer(connection="close")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_request_goes_through_a_tunnel_to_the_address(host: str) -> None:
    async with (
        proxying() as proxy,
        dispatching(LOOPBACK, proxy=proxy.way()) as dispatcher,
        serving(answering(answer())) as target,
    ):
        outcomes = [await dispatcher.send(delivery(target.url("/hook", host))) for _ in range(2)]

        assert all(outcome.succeeded for outcome in outcomes)
        assert [(request.method, request.path) for request in target.received] == [("POST", "/hook")] * 2
        assert target.received[0].headers["host"] == f"{host}:{target.port}"
        # One tunnel serves both, as a connection of our own would; it is to the number, not the name. (The
        # other address of localhost may come first, where nobody listens.)
        other = f"CONNECT [::1]:{target.port}"
        assert [asked for asked in proxy.asked if asked != other] == [f"CONNECT 127.0.0.1:{target.port}"]
        assert set(proxy.authorizations) == {""}


async def test_an_ipv6_address_is_in_brackets() -> None:
    async with (
        proxying() as proxy,
        dispatching("::1/128", proxy=proxy.way()) as dispatcher,
        serving(answering(answer()), host="::1") as target,
    ):
        assert (await dispatcher.send(delivery(target.url(host="[::1]")))).succeeded
        assert proxy.asked == [f"CONNECT [::1]:{target.port}"]


async def test_tls_is_with_the_target_and_its_name(
    client_tls: ssl.SSLContext, server_tls: ssl.SSLContext
) -> None:
    zone = Zone(["127.0.0.1"])
    async with (
        proxying() as proxy,
        dispatching(LOOPBACK, resolver=zone, tls=client_tls, proxy=proxy.way()) as dispatcher,
        serving(answering(answer()), tls=server_tls) as target,
    ):
        url = target.url(host="localhost", scheme="https")
        outcome = await dispatcher.send(delivery(url, headers={"authorization": "Bearer hidden"}))
        wrong = await dispatcher.send(delivery(target.url(host="other.example", scheme="https")))

        assert outcome.succeeded
        assert target.received[0].headers["authorization"] == "Bearer hidden"
        assert proxy.relayed
        assert b"hidden" not in proxy.relayed
        assert wrong.reason is Reason.TLS
        assert "mismatch" in wrong.detail.lower()


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433"])
async def test_the_proxy_is_never_asked_for_a_refused_address(host: str) -> None:
    async with proxying() as proxy, dispatching(proxy=proxy.way()) as dispatcher:
        outcome = await dispatcher.send(delivery(f"http://{host}:8080/"))

        assert outcome.reason is Reason.BLOCKED_ADDRESS
        assert proxy.asked == []


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"]])
async def test_nor_for_a_name_that_resolves_to_one(addresses: list[str]) -> None:
    async with (
        proxying() as proxy,
        dispatching(resolver=Zone(addresses), proxy=proxy.way()) as ours,
    ):
        outcome = await ours.send(delivery("http://inner.example/"))

        assert outcome.reason is Reason.BLOCKED_ADDRESS
        assert proxy.asked == []


async def test_nor_if_the_resolver_was_not_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedResolver, "resolve", Zone(["8.8.8.8", "10.0.0.1"]).resolve)
    async with proxying() as proxy, dispatching(proxy=proxy.way()) as dispatcher:
        outcome = await dispatcher.send(delivery("http://inner.example/"))

        assert (outcome.reason, outcome.detail) == (Reason.BLOCKED_ADDRESS, "private")
        assert proxy.asked == []


async def test_a_redirect_is_checked_as_without() -> None:
    async with (
        proxying() as proxy,
        dispatching("127.0.0.2/32", proxy=proxy.way()) as dispatcher,
        serving(answering(answer())) as private,
    ):
        redirect = answer("307 Temporary Redirect", location=private.url())
        async with serving(answering(redirect), host="127.0.0.2") as public:
            url = public.url(host="127.0.0.2")
            outcome = await dispatcher.send(delivery(url, follow_redirects=True))

        assert (outcome.reason, outcome.detail) == (Reason.BLOCKED_ADDRESS, "loopback")
        assert proxy.asked == [f"CONNECT 127.0.0.2:{public.port}"]
        assert private.connections == 0


async def test_it_tells_the_proxy_who_it_is_and_nobody_else() -> None:
    async with (
        proxying() as proxy,
        dispatching(LOOPBACK, proxy=proxy.way("kuueri:p%40ss@")) as dispatcher,
        serving(answering(answer())) as target,
    ):
        assert (await dispatcher.send(delivery(target.url()))).succeeded
        assert proxy.authorizations == [f"Basic {base64.b64encode(b'kuueri:p@ss').decode()}"]
        assert "proxy-authorization" not in target.received[0].headers
    assert "p@ss" not in repr(proxy.way("kuueri:p%40ss@"))
    assert base64.b64encode(b"kuueri:p@ss").decode() not in repr(proxy.way("kuueri:p%40ss@"))


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "egress proxy: answered 407"),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", "egress proxy: answered 502"),
        (b"", "egress proxy: closed the connection"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "egress proxy: its answer was not valid HTTP"),
        (b"HTTP/1.1 ok\r\n\r\n", "egress proxy: its answer was not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "egress proxy: its answer was not valid HTTP"),
        (b"x" * 20_000, "egress proxy: its answer is too long"),
    ],
)
async def test_a_proxy_that_gives_no_tunnel(said: bytes, detail: str) -> None:
    async with (
        proxying(said) as proxy,
        dispatching(LOOPBACK, proxy=proxy.way()) as dispatcher,
    ):
        outcome = await dispatcher.send(delivery("http://127.0.0.1:9/"))

        assert (outcome.status_code, outcome.reason, outcome.detail) == (
            None,
            Reason.CONNECTION_FAILED,
            detail,
        )
        assert len(proxy.asked) == 1


async def test_a_proxy_that_is_not_there() -> None:
    async with serving(answering(answer())) as gone:
        pass
    async with dispatching(LOOPBACK, proxy=EgressProxy("127.0.0.1", gone.port)) as dispatcher:
        outcome = await dispatcher.send(delivery("http://127.0.0.1:9/"))

    assert (outcome.reason, outcome.detail) == (
        Reason.CONNECTION_FAILED,
        "egress proxy: cannot be reached (ECONNREFUSED)",
    )


async def test_the_second_address_is_tried_when_there_is_no_tunnel_to_the_first() -> None:
    zone = Zone(["127.0.0.3", "127.0.0.1"], ["127.0.0.1"])  # the target, then the proxy
    async with (
        proxying() as proxy,
        dispatching(LOOPBACK, resolver=zone, proxy=proxy.way()) as dispatcher,
        serving(answering(answer())) as target,
    ):
        assert (await dispatcher.send(delivery(target.url(host="two.example")))).succeeded
        assert proxy.asked == [f"CONNECT 127.0.0.3:{target.port}", f"CONNECT 127.0.0.1:{target.port}"]


async def test_the_deadline_counts_the_proxy_and_closes_its_connection() -> None:
    async def say_nothing(connection: object) -> None:
        await connection.wait_lost()  # type: ignore[attr-defined]

    async with (
        serving(say_nothing) as silent,
        dispatching(LOOPBACK, proxy=EgressProxy("127.0.0.1", silent.port)) as dispatcher,
    ):
        outcome = await dispatcher.send(delivery("http://127.0.0.1:9/", timeout_ms=100))

        assert outcome.reason is Reason.TIMEOUT
        while silent.open_connections:
            await silent.changed()
