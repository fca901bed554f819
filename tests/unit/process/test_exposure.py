"""Who is let listen on what, without TLS."""

import logging

import pytest
from pydantic import SecretStr

from kuueri_grpc.config import Settings
from kuueri_grpc.config.edge import TlsSettings
from kuueri_grpc.config.settings import QueueSettings, ServiceSettings
from kuueri_grpc.domain.hosts import is_loopback
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.exposure import check_exposure, queue_limit

EVERYWHERE = "0.0.0.0"  # noqa: S104  to be refused
ADMIN_TOKEN = SecretStr("an-admin-token-of-this-test-alone")
SEVEN = ServiceSettings(queue=QueueSettings(limit=7))
TLS = TlsSettings.model_validate({"cert": "server.crt", "key": "server.key"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST"])
def test_loopback_may_be_plain(host: str) -> None:
    assert is_loopback(host)
    check_exposure(Settings(host=host))


@pytest.mark.parametrize(
    "host", [EVERYWHERE, "::", "192.168.1.1", "8.8.8.8", "example.com", "localhost.example.com", "127.1"]
)
def test_whatever_others_may_reach_may_not(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(StartError, match=f"^gRPC would be in plain text on {host}, .*--tls-cert.*--insecure"):
        check_exposure(Settings(host=host, level="DEVELOPMENT"))


@pytest.mark.parametrize("settings", [{"tls": TLS}, {"insecure": True}, {"roles": ("scheduler",)}])
def test_unless_there_is_tls_or_no_port_or_it_was_asked_for(settings: dict[str, object]) -> None:
    check_exposure(Settings(host=EVERYWHERE, admin_token=ADMIN_TOKEN, **settings))  # type: ignore[arg-type]


def test_what_was_asked_for_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_exposure(
            Settings(
                host=EVERYWHERE, admin_token=ADMIN_TOKEN, insecure=True, admin_host="::", admin_port=8203
            )
        )
    assert [record.event for record in caplog.records] == ["admin_exposed", "plain_text"]  # type: ignore[attr-defined]


def test_an_admin_endpoint_on_this_machine_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    check_exposure(Settings(admin_port=8203))
    assert not caplog.records


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.168.1.1"])
@pytest.mark.parametrize("settings", [{"tls": TLS}, {"insecure": True}])
def test_nobody_may_register_who_comes_along(host: str, settings: dict[str, object]) -> None:
    with pytest.raises(StartError, match=f"^registration would be open on {host}, .*TASKS_ADMIN_TOKEN"):
        check_exposure(Settings(host=host, **settings))  # type: ignore[arg-type]


def test_unless_it_is_for_development_of_which_is_warned(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_exposure(Settings(host=EVERYWHERE, tls=TLS, level="DEVELOPMENT"))
        check_exposure(Settings(host="127.0.0.1"))
        check_exposure(Settings(host=EVERYWHERE, roles=("scheduler",)))
    assert [record.event for record in caplog.records] == ["open_registration"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        (Settings(), 100_000),
        (Settings(host="::1"), 100_000),
        (Settings(admin_token=ADMIN_TOKEN), 1_000),
        (Settings(host=EVERYWHERE), 1_000),
        (Settings(host=EVERYWHERE, level="DEVELOPMENT"), 1_000),
        (Settings(service=SEVEN), 7),
        (Settings(host=EVERYWHERE, admin_token=ADMIN_TOKEN, service=SEVEN), 7),
    ],
)
def test_a_project_has_room_on_a_server_of_one_user(settings: Settings, limit: int) -> None:
    assert queue_limit(settings) == limit
