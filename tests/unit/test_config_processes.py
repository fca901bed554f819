"""The settings of a server of several processes."""

import os
from pathlib import Path

import pytest

from kuueri_grpc.config import ConfigError, Settings, load_settings


@pytest.fixture(autouse=True)
def _bare_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [name for name in os.environ if name.startswith("TASKS_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def test_by_default_one_process_per_core_does_everything() -> None:
    settings = load_settings()
    assert settings.workers == len(os.sched_getaffinity(0))
    assert settings.roles == ("api", "scheduler")
    assert settings.grace == 10


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("api", ("api",)),
        ("scheduler, API", ("scheduler", "api")),
        (["api", "api"], ("api",)),
    ],
)
def test_roles_are_a_list_or_names_with_commas(given: object, expected: tuple[str, ...]) -> None:
    assert load_settings({"roles": given}).roles == expected


def test_the_environment_names_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_ROLES", "scheduler")
    monkeypatch.setenv("TASKS_WORKERS", "3")
    monkeypatch.setenv("TASKS_GRACE", "2.5")
    settings = load_settings()
    assert (settings.roles, settings.workers, settings.grace) == (("scheduler",), 3, 2.5)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("workers", 0, "WORKERS on the command line: expected a number greater than or equal to 1, found 0"),
        ("grace", -1, "GRACE on the command line: expected a number greater than or equal to 0, found -1"),
        ("roles", "cook", "ROLES on the command line: expected 'api' or 'scheduler', found 'cook'"),
        ("roles", "", "ROLES on the command line: expected 'api' or 'scheduler', found ''"),
        ("roles", [], "ROLES on the command line: "),
        ("roles", 7, "ROLES on the command line: "),
    ],
)
def test_a_fault_names_the_setting_and_what_is_expected(option: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({option: value})
    assert message in str(caught.value)


def test_the_number_of_cores_is_that_of_this_process() -> None:
    assert Settings().workers >= 1
