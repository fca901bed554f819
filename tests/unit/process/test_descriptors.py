"""How the descriptors of a process are shared."""

import logging
import resource
from collections.abc import Iterator

import pytest

from kuueri_grpc.config import Settings
from kuueri_grpc.config.settings import Role, ServiceSettings
from kuueri_grpc.process.descriptors import fitted, raise_limit, target_connections
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.handover import Order, pack_order, unpack_order


@pytest.fixture(autouse=True)
def _limit_restored() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def limit_to(monkeypatch: pytest.MonkeyPatch, soft: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))


@pytest.mark.parametrize("limit", [88, 100, 128, 256, 1_024, 4_096, 65_536, 1_048_576])
def test_all_shares_fit_together(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    limit_to(monkeypatch, limit)
    settings = fitted(Settings())
    attempts, clients = settings.service.max_in_flight, settings.module.grpc.max_connections
    targets = target_connections(settings)
    assert attempts >= 1
    assert targets >= attempts * 5 / 4
    assert targets + clients + 56 <= limit


@pytest.mark.parametrize("roles", [("api", "scheduler"), ("api",), ("scheduler",)])
@pytest.mark.parametrize("limit", [88, 1_024, 65_536])
def test_what_is_left_can_be_told_to_a_worker(
    monkeypatch: pytest.MonkeyPatch, limit: int, roles: tuple[Role, ...]
) -> None:
    limit_to(monkeypatch, limit)
    settings = fitted(Settings(roles=roles))
    assert unpack_order(pack_order(Order(settings))).settings == settings


def test_enough_changes_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    limit_to(monkeypatch, 20_000)
    assert fitted(Settings()) == Settings()
    assert not caplog.records


def test_no_limit_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(monkeypatch, resource.RLIM_INFINITY)
    assert fitted(Settings()) == Settings()


def test_a_lack_is_logged_once_with_what_to_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limit_to(monkeypatch, 1_024)
    with caplog.at_level(logging.WARNING):
        settings = fitted(Settings())
    assert settings.service.max_in_flight == 358
    (record,) = caplog.records
    text = record.getMessage()
    assert "1024 files" in text
    assert "358 attempts" in text
    assert "3072" in text

    caplog.clear()
    limit_to(monkeypatch, 3_072)
    assert fitted(Settings()).service.max_in_flight == 1_000
    assert not caplog.records, "what is advised is enough"


def test_a_process_without_an_edge_has_all_for_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(monkeypatch, 1_024)
    settings = Settings(roles=("scheduler",), service=ServiceSettings(max_in_flight=700))
    assert fitted(settings).service.max_in_flight == 700


def test_a_process_that_runs_no_tasks_has_all_for_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(monkeypatch, 1_024)
    settings = fitted(Settings(roles=("api",)))
    assert settings.module.grpc.max_connections == 896
    assert settings.service.max_in_flight == 1_000


def test_too_few_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_to(monkeypatch, 64)
    with pytest.raises(
        StartError, match=r"64 files open, too few .* allow it 88 at the least, or better 3072"
    ):
        fitted(Settings())


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    raise_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
