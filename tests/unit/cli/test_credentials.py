"""The file that credentials are kept in."""

import json
import threading
from pathlib import Path

import pytest

from kuueri_grpc.cli.credentials import PATH_VARIABLE, CredentialsFile, ProjectCredentials, credentials_path
from kuueri_grpc.cli.errors import CliError

ADDRESS = "127.0.0.1:8202"


def credentials(name: str) -> ProjectCredentials:
    return ProjectCredentials(f"project-{name}", f"{name}@example.com", f"token-{name}", f"whsec_{name}")


@pytest.fixture
def file(tmp_path: Path) -> CredentialsFile:
    return CredentialsFile(tmp_path / "config" / "credentials.json")


def test_what_is_saved_is_current(file: CredentialsFile) -> None:
    assert file.current(ADDRESS) is None
    assert not file.is_kept(ADDRESS)
    assert file.save(ADDRESS, credentials("a")) is None
    assert file.current(ADDRESS) == credentials("a")
    assert file.is_kept(ADDRESS)


def test_servers_are_kept_apart_but_for_two_names_of_loopback(file: CredentialsFile) -> None:
    file.save("localhost:8202", credentials("a"))
    file.save("127.0.0.1:1", credentials("b"))
    assert file.current(ADDRESS) == credentials("a")
    assert file.current("LOCALHOST:1") == credentials("b")
    assert file.current("example.com:8202") is None


def test_a_later_project_does_not_push_an_earlier_one_out(file: CredentialsFile) -> None:
    file.save(ADDRESS, credentials("a"))
    assert file.save(ADDRESS, credentials("b")) == "project-a"
    assert file.current(ADDRESS) == credentials("b")
    assert file.use(ADDRESS, "project-a") == credentials("a")
    assert file.current(ADDRESS) == credentials("a")


def test_only_a_kept_project_can_be_used(file: CredentialsFile) -> None:
    file.save(ADDRESS, credentials("a"))
    with pytest.raises(CliError, match=r"no project 'project-b' .* kept there: project-a"):
        file.use(ADDRESS, "project-b")
    with pytest.raises(CliError, match="kept there: none"):
        file.use("example.com:1", "project-a")
    assert file.current(ADDRESS) == credentials("a")


def test_a_token_is_replaced_where_its_project_is_kept(file: CredentialsFile) -> None:
    file.save(ADDRESS, credentials("a"))
    file.save(ADDRESS, credentials("b"))
    assert file.replace_token(ADDRESS, "project-a", "new")
    assert not file.replace_token(ADDRESS, "project-c", "new")
    assert file.current(ADDRESS) == credentials("b")
    assert file.use(ADDRESS, "project-a").token == "new"


def test_file_and_directory_are_the_owners_alone(file: CredentialsFile) -> None:
    file.save(ADDRESS, credentials("a"))
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700
    assert file.exposure() is None


def test_an_exposed_file_is_told_of_and_made_private_by_the_next_save(file: CredentialsFile) -> None:
    file.save(ADDRESS, credentials("a"))
    file.path.chmod(0o644)
    warning = file.exposure()
    assert warning is not None
    assert "mode 0644" in warning
    assert f"chmod 600 {file.path}" in warning
    file.save(ADDRESS, credentials("b"))
    assert file.exposure() is None


def test_a_failed_save_leaves_the_file_and_nothing_else(
    file: CredentialsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.save(ADDRESS, credentials("a"))

    def disk_full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(CliError, match=r"cannot write .* No space left on device"):
        file.save(ADDRESS, credentials("b"))
    assert file.current(ADDRESS) == credentials("a")
    assert [path.name for path in file.path.parent.iterdir()] == ["credentials.json"]


def test_a_link_to_the_file_stays_a_link(file: CredentialsFile, tmp_path: Path) -> None:
    file.path.parent.mkdir()
    file.path.symlink_to(tmp_path / "elsewhere.json")
    file.save(ADDRESS, credentials("a"))
    assert file.path.is_symlink()
    assert (tmp_path / "elsewhere.json").stat().st_mode & 0o777 == 0o600
    assert file.current(ADDRESS) == credentials("a")


def test_saves_at_the_same_time_lose_nothing(file: CredentialsFile) -> None:
    names = [f"n{number}" for number in range(16)]
    threads = [
        threading.Thread(target=CredentialsFile(file.path).save, args=(ADDRESS, credentials(name)))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {file.use(ADDRESS, f"project-{name}").token for name in names} == {
        f"token-{name}" for name in names
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret-text {",
        "[]",
        '{"version": 2, "servers": {}}',
        '{"version": 1, "servers": {"a:1": {"current": "p", "projects": {}}}}',
        '{"version": 1, "servers": {"a:1": {"current": "p", "projects": {"p": {"token": "secret-text"}}}}}',
        (
            '{"version": 1, "servers": {"a:1": {"current": "p", "projects": {"p":'
            ' {"token": 1, "email": "", "signing_secret": ""}}}}}'
        ),
    ],
)
def test_another_file_is_refused_and_neither_shown_nor_overwritten(file: CredentialsFile, text: str) -> None:
    file.path.parent.mkdir()
    file.path.write_text(text)
    for act in (lambda: file.current(ADDRESS), lambda: file.save(ADDRESS, credentials("a"))):
        with pytest.raises(CliError, match="is not a credentials file") as raised:
            act()
        assert "secret-text" not in str(raised.value)
    assert file.path.read_text() == text
    assert not file.is_kept(ADDRESS)


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"cannot read the credentials .* Is a directory"):
        CredentialsFile(tmp_path).current(ADDRESS)


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUUERI_CREDENTIALS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert credentials_path() == tmp_path / ".config/kuueri/credentials.json"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert credentials_path() == tmp_path / ".config/kuueri/credentials.json"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/xdg")
    assert credentials_path() == Path("/etc/xdg/kuueri/credentials.json")
    monkeypatch.setenv("KUUERI_CREDENTIALS", "~/mine.json")
    assert credentials_path() == tmp_path / "mine.json"


def test_secrets_are_not_in_the_representation() -> None:
    assert "token-a" not in repr(credentials("a"))
    assert "whsec_a" not in repr(credentials("a"))


def test_the_file_is_json_for_people(file: CredentialsFile) -> None:
    file.save(ADDRESS, credentials("a"))
    document = json.loads(file.path.read_text())
    assert document["servers"][ADDRESS]["projects"]["project-a"]["email"] == "a@example.com"


def test_a_removed_project_is_forgotten(file: CredentialsFile) -> None:
    for name in "abc":
        file.save(ADDRESS, credentials(name))
    file.use(ADDRESS, "project-b")

    file.remove(ADDRESS, "project-c")
    assert file.current(ADDRESS) == credentials("b")
    file.remove(ADDRESS, "project-b")
    assert file.current(ADDRESS) == credentials("a")
    file.remove(ADDRESS, "project-a")
    assert file.current(ADDRESS) is None
    file.remove(ADDRESS, "project-a")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CONFIG_HOME", PATH_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", _no_home)
    with pytest.raises(CliError, match=f"no home directory .* {PATH_VARIABLE}"):
        credentials_path()


def _no_home() -> Path:
    raise RuntimeError("could not determine home directory")
