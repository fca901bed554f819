"""A port that the workers share and nobody else does."""

import socket
from collections.abc import Iterator

import pytest

from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.port import reserved

HOST = "127.0.0.1"


def listener(port: int) -> socket.socket:
    """Listen as a worker does."""
    worker = socket.socket()
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        worker.setsockopt(socket.SOL_SOCKET, option, 1)
    worker.bind((HOST, port))
    worker.listen()
    return worker


@pytest.fixture
def port() -> Iterator[int]:
    with reserved(HOST, 0) as port:
        yield port


def refused(port: int) -> str:
    with pytest.raises(StartError) as caught, reserved(HOST, port):
        pass
    return str(caught.value)


def test_workers_listen_on_it_together_and_get_all_connections(port: int) -> None:
    with listener(port) as one, listener(port) as two:
        for worker in (one, two):
            worker.setblocking(False)
        answered = 0
        for _ in range(20):
            with socket.create_connection((HOST, port)):
                for worker in (one, two):
                    try:
                        worker.accept()[0].close()
                    except BlockingIOError:
                        continue
                    answered += 1
        assert answered == 20


def test_it_is_kept_while_no_worker_listens(port: int) -> None:
    assert f"port {port} is in use on {HOST}" in refused(port)
    with pytest.raises(OSError, match="in use"):
        socket.create_server((HOST, port))


def test_another_server_is_not_joined_whatever_it_allows(port: int) -> None:
    with listener(port):
        assert "in use" in refused(port)


def test_a_listener_of_another_kind_is_noticed() -> None:
    with socket.create_server((HOST, 0)) as other:
        assert "in use" in refused(other.getsockname()[1])


@pytest.mark.parametrize("shared", [True, False], ids=["of-workers", "of-a-lone-server"])
def test_closed_connections_do_not_stand_in_the_way(shared: bool) -> None:
    with reserved(HOST, 0) as port:
        pass
    before = listener(port) if shared else socket.create_server((HOST, port))
    with before, socket.create_connection((HOST, port)) as client:
        served, _ = before.accept()
        served.close()  # first, so that this side has to remember the connection for a while
        assert client.recv(1) == b""
    with reserved(HOST, port) as again:
        assert again == port
        with listener(port):
            pass


def test_two_free_ports_are_two() -> None:
    with reserved(HOST, 0) as one, reserved(HOST, 0) as other:
        assert one != other


def test_every_address_of_a_name_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in (HOST, "127.0.0.2")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with reserved("two.example", 0) as port:
        for address in (HOST, "127.0.0.2"):
            with pytest.raises(OSError, match="in use"):
                socket.create_server((address, port))


def test_an_address_of_another_machine() -> None:
    with (
        pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1"),
        reserved("192.0.2.1", 8202),
    ):
        pass


def test_an_address_of_a_name_that_is_not_here_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `::1` of localhost where IPv6 is switched off."""

    def both(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("192.0.2.1", HOST)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with reserved("localhost", 0) as port, pytest.raises(OSError, match="in use"):
        socket.create_server((HOST, port))
