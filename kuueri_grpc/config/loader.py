"""Fills the settings model and, where that fails, says which key of which source is at fault.

Sources, the strongest first: command line, environment, JSON file, Secret Manager, defaults. The file is
the one named on the command line, else by `TASKS_CONFIG`, else `resource/config/config.json` if there is
one. Secret Manager holds the same document; it is asked only where there is no file and `TASKS_VERSION`
names a secret's version (`TASKS_KEY_FILENAME` names the service account's key).
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, SettingsError

from kuueri_grpc.config.settings import ENV_DELIMITER, ENV_PREFIX, Settings
from kuueri_grpc.secrets import SecretError, access_secret

DEFAULT_CONFIG_FILE = Path("resource/config/config.json")
_LOADER_VARIABLES = frozenset({"TASKS_CONFIG", "TASKS_KEY_FILENAME", "TASKS_VERSION"})
#: Kubernetes sets the addresses of the Services of a namespace in every container, also those of Services
#: named `tasks` or `tasks-...` (kubernetes.io, "Service environment variables").
_SERVICE_LINK = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_LINK_URL = re.compile(r"(tcp|udp|sctp)://")

Values = dict[str, Any]
KeyPath = tuple[str, ...]


class ConfigError(Exception):
    """The configuration cannot be used. The message names each fault, its place and what was expected."""


@dataclass(frozen=True)
class _Source:
    """Values of one origin, nested like the model, with lower-case keys."""

    name: str
    values: Values

    def holds(self, path: KeyPath) -> bool:
        node: object = self.values
        for key in path:
            if not isinstance(node, dict) or key not in node:
                return False
            node = node[key]
        return True

    def locate(self, path: KeyPath) -> str:
        """Where a person finds the key, as `in FILE` or `in the environment (VARIABLE)`."""
        variable = ENV_PREFIX + ENV_DELIMITER.join(path).upper()
        return f"{self.name} ({variable})" if self.name == _ENVIRONMENT else self.name


_COMMAND_LINE = "on the command line"
_ENVIRONMENT = "in the environment"


def load_settings(command_line: Mapping[str, Any] | None = None, config_file: Path | None = None) -> Settings:
    """Read every source and return the settings in force.

    Args:
        command_line: Options by dotted name (`{"port": 0, "database.redis.url": "redis://..."}`). An option
            that is None was not given.
        config_file: The JSON file to read instead of the usual one.

    Raises:
        ConfigError: A source cannot be read, or a key is unknown or has a value that does not fit.
    """
    sources = [_from_command_line(command_line or {}), _from_environment(), _from_document(config_file)]
    merged: Values = {}
    for source in reversed(sources):
        merged = _merge(merged, source.values)
    try:
        return Settings(**merged)
    except ValidationError as error:
        # Not chained: pydantic's text shows the values, secrets included.
        faults = [_describe(details, sources) for details in error.errors(include_url=False)]
    raise ConfigError("\n  ".join(["the configuration is not valid:", *faults]))


def _from_command_line(options: Mapping[str, Any]) -> _Source:
    values: Values = {}
    for name, option in options.items():
        if option is not None:
            *sections, key = name.split(".")
            nested: Values = {key: option}
            for section in reversed(sections):
                nested = {section: nested}
            values = _merge(values, nested)
    return _Source(_COMMAND_LINE, values)


def _from_environment() -> _Source:
    # pydantic-settings looks for the variables it knows; one that is misspelt would be passed over.
    known = [*(ENV_PREFIX + name.upper() for name in Settings.model_fields), *_LOADER_VARIABLES]
    links = {name for name, value in os.environ.items() if _is_service_link(name, value)}
    for variable in sorted(name for name in os.environ.keys() - links if name.startswith(ENV_PREFIX)):
        section = ENV_PREFIX + variable.removeprefix(ENV_PREFIX).split(ENV_DELIMITER)[0]
        if section not in known:
            raise ConfigError(f"unknown variable {variable} in the environment{_suggest(variable, known)}")
    try:
        source = EnvSettingsSource(Settings)
        source.env_vars = {
            name: value for name, value in source.env_vars.items() if name.upper() not in links
        }
        return _Source(_ENVIRONMENT, source())
    except SettingsError as error:
        raise ConfigError(
            f"{error} in the environment; expected JSON for a whole section, or a variable per key"
            f" such as {ENV_PREFIX}SERVICE{ENV_DELIMITER}LEASE_MS"
        ) from None


def _is_service_link(variable: str, value: str) -> bool:
    """Return whether a variable is the address of a Service, which Kubernetes has set, and no setting."""
    if not variable.startswith(ENV_PREFIX):
        return False
    # A setting named ..._PORT is a number; a Service's is a URL.
    url = variable.endswith("_PORT") and _SERVICE_LINK_URL.match(value)
    return bool(url) or _SERVICE_LINK.fullmatch(variable) is not None


def _from_document(config_file: Path | None) -> _Source:
    """The JSON document, from a file or from Secret Manager; no values where there is neither."""
    named = config_file or os.environ.get("TASKS_CONFIG")
    path = Path(named) if named else DEFAULT_CONFIG_FILE
    try:
        return _Source(f"in {path}", _parse(path.read_text(encoding="utf-8"), str(path)))
    except FileNotFoundError:
        if named:
            raise ConfigError(f"the configuration file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error}") from error
    return _from_secret_manager()


def _from_secret_manager() -> _Source:
    version = os.environ.get("TASKS_VERSION")
    key_filename = os.environ.get("TASKS_KEY_FILENAME")
    if version:
        try:
            text = access_secret(version, Path(key_filename) if key_filename else None)
        except SecretError as error:
            raise ConfigError(f"the configuration in Secret Manager cannot be read: {error}") from error
        return _Source(f"in {version}", _parse(text, version))
    if key_filename:
        raise ConfigError("TASKS_KEY_FILENAME is set, expected TASKS_VERSION beside it to name the secret")
    return _Source("nowhere", {})


def _parse(text: str, place: str) -> Values:
    """Read a JSON document; its keys are upper case by custom and read in either case."""

    def unique_keys(pairs: list[tuple[str, Any]]) -> Values:
        values: Values = {}
        for key, value in pairs:
            if key.lower() in values:
                raise ConfigError(f"{place}: the key {key.upper()} is there twice in one object")
            values[key.lower()] = value
        return values

    try:
        document = json.loads(text, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        # Not chained: the exception holds the document.
        raise ConfigError(
            f"{place}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    if not isinstance(document, dict):
        raise ConfigError(f"{place}: expected a JSON object")
    return document


def _merge(weak: Values, strong: Values) -> Values:
    merged = dict(weak)
    for key, value in strong.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _describe(details: ErrorDetails, sources: list[_Source]) -> str:
    """One line: the key, where it was set, what was expected and, unless it is secret, what was found."""
    path = tuple(part for part in details["loc"] if isinstance(part, str))
    label = ".".join(path).upper()
    where = next((source.locate(path) for source in sources if source.holds(path)), "by default")
    return f"{label} {where}: {_expectation(details, path)}"


def _expectation(details: ErrorDetails, path: KeyPath) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        names = [name.upper() for name in _section(path[:-1]).model_fields]
        return f"unknown key{_suggest(path[-1].upper(), names)}"
    if kind == "model_type":
        names = [name.upper() for name in _section(path).model_fields]
        return f"expected an object with keys of {', '.join(names)}"
    message = details["msg"].removeprefix("Value error, ")
    message = re.sub(r"^Input should be (?=greater|less)", "expected a number ", message)
    message = re.sub(r"^(Input|String) should ", "expected to ", message).replace(
        "expected to be ", "expected "
    )
    found = details["input"]
    if isinstance(found, str | int | float) and not _is_secret(path):
        message += f", found {found!r}"
    return message


def _section(path: KeyPath) -> type[BaseModel]:
    section: type[BaseModel] = Settings
    for key in path:
        annotation = section.model_fields[key].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            raise TypeError(f"{key} is not a section")
        section = annotation
    return section


def _is_secret(path: KeyPath) -> bool:
    annotation = _section(path[:-1]).model_fields[path[-1]].annotation
    return SecretStr in get_args(annotation)


def _suggest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; expected one of {', '.join(sorted(known))}"
