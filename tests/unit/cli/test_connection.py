"""Which server is called, and with which token."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kuueri_grpc.cli.client import Connection, resolve_connection
from kuueri_grpc.cli.credentials import CredentialsFile, ProjectCredentials
from kuueri_grpc.cli.errors import CliError
from kuueri_grpc.pb.task_service_pb2 import GetTaskResponse

Run = Callable[..., tuple[int, str, str]]

ADDRESS = "127.0.0.1:8202"


@pytest.fixture(autouse=True)
def credentials_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CredentialsFile:
    monkeypatch.delenv("KUUERI_TOKEN", raising=False)
    monkeypatch.setenv("KUUERI_CREDENTIALS", str(tmp_path / "credentials.json"))
    return CredentialsFile()


def keep(file: CredentialsFile, address: str = ADDRESS, token: str = "from-file") -> None:
    file.save(address, ProjectCredentials("p", "p@example.com", token, "whsec_p"))


def test_option_before_environment_before_file(
    credentials_file: CredentialsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[str] = []
    assert resolve_connection(ADDRESS, None, notices.append) == Connection(ADDRESS)
    keep(credentials_file)
    from_file = resolve_connection(ADDRESS, None, notices.append)
    assert (from_file.token, from_file.token_source) == ("from-file", str(credentials_file.path))
    monkeypatch.setenv("KUUERI_TOKEN", "from-environment")
    from_environment = resolve_connection(ADDRESS, None, notices.append)
    assert (from_environment.token, from_environment.token_source) == ("from-environment", "KUUERI_TOKEN")
    from_option = resolve_connection(ADDRESS, "from-option", notices.append)
    assert (from_option.token, from_option.token_source) == ("from-option", "--token")
    monkeypatch.setenv("KUUERI_TOKEN", "")
    assert resolve_connection(ADDRESS, "", notices.append).token == "from-file"
    assert notices == []


def test_a_token_is_for_its_server_alone(credentials_file: CredentialsFile) -> None:
    keep(credentials_file, "example.com:8202")
    assert resolve_connection(ADDRESS, None, print).token is None


def test_an_exposed_file_is_warned_of_when_its_token_is_used(credentials_file: CredentialsFile) -> None:
    notices: list[str] = []
    keep(credentials_file)
    credentials_file.path.chmod(0o640)
    resolve_connection(ADDRESS, "from-option", notices.append)
    assert notices == []
    resolve_connection(ADDRESS, None, notices.append)
    assert [notice.split(" in ")[0] for notice in notices] == ["others may read the tokens"]


@pytest.mark.parametrize("token", [" ", "a\nb", "tökén"])
def test_what_cannot_be_a_token_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(CliError, match="the token from --token has characters that no token has") as raised:
        resolve_connection(ADDRESS, token, print)
    assert raised.value.exit_code == 2


def test_blanks_around_a_token_are_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUUERI_TOKEN", "token\n")
    assert resolve_connection(ADDRESS, None, print).token == "token"


def test_the_token_is_not_in_the_representation() -> None:
    assert "secret" not in repr(Connection(ADDRESS, "secret", "--token"))


def test_the_token_goes_with_the_call(run: Run, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.tasks.get_answers += [GetTaskResponse(), GetTaskResponse()]
    monkeypatch.setenv("KUUERI_ADDRESS", server.address)
    assert run("get", "t", "--token", "mine")[0] == 0
    assert run("get", "t")[0] == 0
    assert server.tasks.metadata[0]["authorization"] == "Bearer mine"
    assert "authorization" not in server.tasks.metadata[1]


def test_a_proxy_in_the_environment_does_not_come_between_this_machine_and_itself(
    run: Run, server: Any, monkeypatch: pytest.MonkeyPatch, unused_port: int
) -> None:
    for variable in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{unused_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    server.tasks.get_answers.append(GetTaskResponse())
    assert run("get", "t", "-a", server.address)[0] == 0
