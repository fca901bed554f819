"""What `kuueri serve` says and refuses, but for serving."""

import shlex
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kuueri_grpc.cli.credentials import CredentialsFile, ProjectCredentials
from kuueri_grpc.cli.serve import command_path, first_steps, first_steps_over_tls, reachable

Run = Callable[..., tuple[int, str, str]]

ADDRESS = "127.0.0.1:8202"


@pytest.fixture(autouse=True)
def installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory that kuueri and grpcurl are installed in, below the working directory, not on the PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUUERI_CREDENTIALS", str(tmp_path / "credentials.json"))
    monkeypatch.setenv("PATH", str(tmp_path / "usr"))
    directory = tmp_path / "the env" / "bin"
    directory.mkdir(parents=True)
    for name in ("python", "kuueri", "grpcurl"):
        (directory / name).touch(mode=stat.S_IRWXU)
    monkeypatch.setattr(sys, "executable", str(directory / "python"))
    return directory


def test_commands_are_named_as_they_can_be_called_from_here(
    installation: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert command_path("kuueri") == "'the env/bin/kuueri'"
    assert command_path("elsewhere") == "elsewhere"
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert command_path("kuueri") == shlex.quote(str(installation / "kuueri"))
    monkeypatch.setenv("PATH", str(installation))
    assert command_path("kuueri") == "kuueri"


def test_the_first_steps_are_to_register_and_to_subscribe(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(installation))
    assert first_steps(ADDRESS) == [
        "In another terminal:",
        "  grpcurl -plaintext 127.0.0.1:8202 list",
        '  eval "$(kuueri project register --email you@example.com --export)"',
        (
            '  grpcurl -plaintext -H "authorization: Bearer $KUUERI_TOKEN"'
            """ -d '{"task": {"http_target": {"url": "https://example.com/"}}}'"""
            " 127.0.0.1:8202 kuueri.tasks.v1.TaskService/Subscribe"
        ),
        "  kuueri list",
    ]


def test_the_admin_token_is_taken_from_the_environment_and_not_shown_to_others(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(installation))
    admin = 'KUUERI_ADMIN_TOKEN="$TASKS_ADMIN_TOKEN" '
    assert first_steps(ADDRESS, wants_admin=True)[2] == (
        f'  eval "$({admin}kuueri project register --email you@example.com --export)"'
    )
    assert first_steps_over_tls(ADDRESS, wants_admin=True)[1] == (
        f"  {admin}kuueri project register --address https://{ADDRESS} --email you@example.com"
    )


def test_with_a_project_at_hand_there_is_nothing_to_register(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(installation))
    CredentialsFile().save("127.0.0.1:1", ProjectCredentials("p", "p@example.com", "kq_secret", "whsec_p"))
    assert first_steps("127.0.0.1:1") == [
        "In another terminal:",
        "  grpcurl -plaintext 127.0.0.1:1 list",
        "  kuueri subscribe --address 127.0.0.1:1 https://example.com/ --watch",
    ]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("0.0.0.0:8202", "127.0.0.1:8202"),
        ("[::]:1", "[::1]:1"),
        ("example.com:1", "example.com:1"),
        ("[fd00::1]:1", "[fd00::1]:1"),
    ],
)
def test_an_address_that_is_listened_on_and_one_to_call(address: str, expected: str) -> None:
    assert reachable(address) == expected


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("--port", "70000"), "PORT on the command line"),
        (("--allow-target", "10.0.0.1/8"), "ALLOW_TARGET on the command line"),
        (("--redis-url", "http://x"), "DATABASE.REDIS.URL on the command line"),
        (("--log-level", "loud"), "LEVEL on the command line"),
        (("--config", "nowhere.json"), "the configuration file nowhere.json does not exist"),
    ],
)
def test_a_setting_that_cannot_be_names_itself(run: Run, arguments: tuple[str, ...], key: str) -> None:
    code, out, err = run("serve", *arguments)
    assert (code, out) == (2, "")
    assert key in err
