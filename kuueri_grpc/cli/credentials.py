"""The file that `kuueri project register` keeps credentials in, by the address of the server.

JSON, readable by its owner alone. A server can have several projects there, one of which is the current
one; a project that is registered later never pushes an earlier one out.
"""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kuueri_grpc.cli.errors import CliError

PATH_VARIABLE = "KUUERI_CREDENTIALS"
_OTHERS = 0o077


def credentials_path() -> Path:
    """`$KUUERI_CREDENTIALS`, else `kuueri/credentials.json` in the user's configuration directory (XDG).

    Raises:
        CliError: the user has none, as a number without a name in a container.
    """
    if named := os.environ.get(PATH_VARIABLE):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME", "")
    try:
        # The XDG specification has relative paths ignored.
        configuration = Path(base) if base.startswith("/") else Path.home() / ".config"
    except RuntimeError:
        raise CliError(
            f"this user has no home directory for credentials; name a file for them in {PATH_VARIABLE}"
        ) from None
    return configuration / "kuueri" / "credentials.json"


@dataclass(frozen=True, slots=True)
class ProjectCredentials:
    """What a project was given when it was registered."""

    project_id: str
    email: str
    token: str
    signing_secret: str

    def __repr__(self) -> str:
        return f"ProjectCredentials({self.project_id!r}, {self.email!r}, ...)"


class CredentialsFile:
    """The credentials at `path`, which need not exist yet.

    Every method may raise `CliError`: the file cannot be read or written, or is not one of ours.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or credentials_path()

    def current(self, address: str) -> ProjectCredentials | None:
        """Return the project in use at the server, if there is one."""
        server = self._read().get(_key(address))
        return None if server is None else _project(server, server["current"])

    def is_kept(self, address: str) -> bool:
        """Whether there is a project for the server, in a file that can be read."""
        try:
            return self.current(address) is not None
        except CliError:
            return False

    def save(self, address: str, credentials: ProjectCredentials) -> str | None:
        """Keep a project's credentials and make it the current one; return the id of the one before."""
        with self._update() as servers:
            server = servers.setdefault(_key(address), {"current": None, "projects": {}})
            before: str | None = server["current"]
            entry = asdict(credentials)
            server["projects"][entry.pop("project_id")] = entry
            server["current"] = credentials.project_id
        return None if before == credentials.project_id else before

    def replace_token(self, address: str, project_id: str, token: str) -> bool:
        """Put a new token in the place of a kept project's; return False if the project is not kept."""
        return self._replace_secret(address, project_id, "token", token)

    def replace_signing_secret(self, address: str, project_id: str, secret: str) -> bool:
        """Put a new signing secret in the place of a kept project's; return False if it is not kept."""
        return self._replace_secret(address, project_id, "signing_secret", secret)

    def _replace_secret(self, address: str, project_id: str, name: str, secret: str) -> bool:
        if not self._keeps(address, project_id):
            return False
        with self._update() as servers:
            servers[_key(address)]["projects"][project_id][name] = secret
        return True

    def remove(self, address: str, project_id: str) -> None:
        """Forget a project, if it is kept; of its server, the one kept last is the current one then."""
        if not self._keeps(address, project_id):
            return
        with self._update() as servers:
            server = servers[_key(address)]
            del server["projects"][project_id]
            if not server["projects"]:
                del servers[_key(address)]
            elif server["current"] == project_id:
                server["current"] = list(server["projects"])[-1]

    def _keeps(self, address: str, project_id: str) -> bool:
        return project_id in self._read().get(_key(address), {"projects": {}})["projects"]

    def use(self, address: str, project_id: str) -> ProjectCredentials:
        """Make a kept project the current one of its server."""
        with self._update() as servers:
            server = servers.get(_key(address), {"projects": {}})
            if project_id not in server["projects"]:
                kept = ", ".join(sorted(server["projects"])) or "none"
                raise CliError(f"no project {project_id!r} for {address} in {self.path}; kept there: {kept}")
            server["current"] = project_id
            return _project(server, project_id)

    def exposure(self) -> str | None:
        """Return a warning if others than the owner may read the file, else None."""
        try:
            mode = self.path.stat().st_mode & 0o777
        except OSError:
            return None
        if not mode & _OTHERS:
            return None
        return f"others may read the tokens in {self.path} (mode {mode:04o}); run: chmod 600 {self.path}"

    def _read(self) -> dict[str, Any]:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CliError(f"cannot read the credentials in {self.path}: {error.strerror}") from error
        except ValueError:
            document = None
        if not _is_ours(document):
            # The text is not shown: it may hold tokens.
            raise CliError(
                f"{self.path} is not a credentials file of kuueri",
                hint=f"move it away, or name another one with {PATH_VARIABLE}",
            )
        servers: dict[str, Any] = document["servers"]
        return servers

    @contextlib.contextmanager
    def _update(self) -> Iterator[dict[str, Any]]:
        """Read, let the caller change, and replace the file; one process at a time."""
        # A link to the file stays one: what it leads to is replaced.
        path = self.path.resolve()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(directory, fcntl.LOCK_EX)
                servers = self._read()
                yield servers
                _replace(path, json.dumps({"version": 1, "servers": servers}, indent=2) + "\n")
            finally:
                os.close(directory)
        except OSError as error:
            raise CliError(f"cannot write the credentials to {self.path}: {error.strerror}") from error


def _replace(path: Path, text: str) -> None:
    # mkstemp makes it readable by its owner alone, before the first byte is in it.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _key(address: str) -> str:
    """One spelling per server: `localhost` and the loopback address are kept as one."""
    server = address.lower().removeprefix("https://")
    host, separator, port = server.rpartition(":")
    return f"127.0.0.1{separator}{port}" if host == "localhost" else server


def _project(server: dict[str, Any], project_id: str) -> ProjectCredentials:
    return ProjectCredentials(project_id, **server["projects"][project_id])


def _is_ours(document: object) -> bool:
    match document:
        case {"version": 1, "servers": dict() as servers}:
            return all(_is_server(server) for server in servers.values())
    return False


def _is_server(server: object) -> bool:
    match server:
        case {"current": str() as current, "projects": dict() as projects}:
            return current in projects and all(_is_project(project) for project in projects.values())
    return False


def _is_project(project: object) -> bool:
    return (
        isinstance(project, dict)
        and project.keys() == {"email", "token", "signing_secret"}
        and all(isinstance(value, str) for value in project.values())
    )
