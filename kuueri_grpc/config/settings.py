"""The settings model: every key, its unit, its bounds and its default.

A setting has one name in three spellings: `DATABASE.REDIS.HOST` in the JSON file,
`TASKS_DATABASE__REDIS__HOST` in the environment, `settings.database.redis.host` in the code.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from kuueri_grpc.config.cores import available_cores
from kuueri_grpc.config.database import DatabaseSettings
from kuueri_grpc.config.edge import ModuleSettings, TlsSettings
from kuueri_grpc.config.section import Section
from kuueri_grpc.config.targets import TargetRule, check_proxy_url, parse_rules
from kuueri_grpc.crypto.keyring import Keyring

ENV_PREFIX = "TASKS_"
ENV_DELIMITER = "__"
Role = Literal["api", "scheduler"]
#: 32 hexadecimal digits are 128 bits. As good as all random ones have more than 8 different characters.
_ADMIN_TOKEN_LENGTH, _ADMIN_TOKEN_LETTERS = 32, 8


def default_data_dir() -> Path:
    """`kuueri` in the user's data directory, as the XDG Base Directory Specification has it.

    A user without a home directory (a number without a name, in a container) has `/var/lib/kuueri`.
    """
    base = os.environ.get("XDG_DATA_HOME", "")
    try:
        # The specification has relative paths ignored.
        data = Path(base) if base.startswith("/") else Path.home() / ".local" / "share"
    except RuntimeError:
        data = Path("/var/lib")
    return data / "kuueri"


class QueueSettings(Section):
    """Limits of a project."""

    limit: int | None = Field(None, ge=1)
    """Tasks of a project that have not ended. `kuueri project limit` sets another number for one project."""


class CryptoSettings(Section):
    """Encryption at rest."""

    key: SecretStr | None = None
    """Keys that requests and signing secrets are sealed with, `id:base64` as `kuueri keys generate` makes
    them, separated by commas, or a list: the first seals what is new, each opens what it has sealed. Unset,
    the embedded store makes one of its own; an external one needs it."""

    @field_validator("key", mode="before")
    @classmethod
    def _join(cls, key: object) -> object:
        match key:
            case [*items] if all(isinstance(item, str) for item in items):
                return ",".join(map(str, items))
            case _:
                return key

    @field_validator("key")
    @classmethod
    def _check_keys(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            _ = Keyring.parse(key.get_secret_value())  # its error is a ValueError that shows no key
        return key

    @property
    def keyring(self) -> Keyring | None:
        """The keys; None where none is set."""
        return None if self.key is None else Keyring.parse(self.key.get_secret_value())


class ServiceSettings(Section):
    """Settings of the engine."""

    queue: QueueSettings = QueueSettings()
    crypto: CryptoSettings = CryptoSettings()
    history: int | None = Field(None, ge=1)
    """Seconds that an ended task and its timeline are kept; unset takes DATABASE.REDIS.EXPIRATION_KEY."""
    lease_ms: int = Field(5000, ge=500, le=600_000)
    """Milliseconds after which an attempt whose worker went silent is taken over."""
    max_losses: int = Field(5, ge=3, le=1_000)
    """Losses of an attempt with its process after which its task is given up (FAILED, POISON). After two it
    is watched, in a process without another such attempt, and only what happens then counts."""
    max_in_flight: int = Field(1000, ge=1)
    """Attempts that one process runs at a time. One project has 4/5 of them at the most."""
    max_bytes_in_flight: int = Field(256 << 20, ge=1 << 20)
    """Bytes of requests that the attempts of one process hold at a time; more wait in the store. One project
    has 4/5 of them at the most."""
    max_per_host: int = Field(256, ge=1)
    """Attempts that one process runs at a time against one host."""


class Settings(BaseSettings):
    """All settings. Made by `load_settings`; constructed directly, it reads nothing from outside."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        env_ignore_empty=True,
    )

    host: str = Field("127.0.0.1", min_length=1)
    """Address that gRPC listens on."""
    port: int = Field(8202, ge=0, le=65535)
    """Port that gRPC listens on; 0 picks a free one."""
    tls: TlsSettings = TlsSettings()
    insecure: bool = False
    """Whether gRPC may be served in plain text beyond this machine."""
    admin_token: SecretStr | None = None
    """Token that Register needs, 32 random characters or more (`openssl rand -hex 32`); unset, anybody may
    register a project who reaches the server, which then listens on a loopback address alone unless LEVEL is
    DEVELOPMENT."""
    level: Literal["DEVELOPMENT", "DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe log lines that are written; DEVELOPMENT is DEBUG, and leaves registration open."""
    log_format: Literal["human", "json"] = "human"
    """Log lines for people, or as JSON, an object per line."""
    admin_host: str = Field("127.0.0.1", min_length=1)
    """Address that the admin endpoint (HTTP: /healthz, /readyz, /metrics) listens on."""
    admin_port: int | None = Field(None, ge=0, le=65535)
    """Port of the admin endpoint; 0 picks a free one, unset serves none."""
    workers: int = Field(default_factory=available_cores, ge=1, le=1024)
    """Processes that share the port and the work; 1 serves without a supervising parent."""
    worker_timeout: float = Field(15.0, ge=0, le=3600)
    """Seconds that one of several workers may stand still before it is killed and another one takes its
    place; 4 at the least, 0: never."""
    roles: Annotated[tuple[Role, ...], NoDecode] = ("api", "scheduler")
    """What the processes do: answer calls (api), run tasks (scheduler), or both."""
    grace: float = Field(10.0, ge=0, le=3600)
    """Seconds that a server told to stop may take; attempts still in flight then are handed back."""
    data_dir: Path = Field(default_factory=default_data_dir)
    """Directory of the embedded store."""
    allow_target: Annotated[tuple[TargetRule, ...], NoDecode] = ()
    """Networks and names that tasks may be sent to although they are refused by default (private, loopback
    ...). An allowed name may resolve to anything that is not denied."""
    deny_target: Annotated[tuple[TargetRule, ...], NoDecode] = ()
    """Networks and names that tasks may not be sent to, also where ALLOW_TARGET has them."""
    egress_proxy: SecretStr | None = None
    """HTTP proxy that all requests to targets go through: http://[user:password@]host:port. It must allow
    CONNECT to the ports of targets; it is told addresses that were resolved and checked here, no names."""
    module: ModuleSettings = ModuleSettings()
    service: ServiceSettings = ServiceSettings()
    database: DatabaseSettings = DatabaseSettings()

    @field_validator("data_dir")
    @classmethod
    def _expand_home(cls, data_dir: Path) -> Path:
        return data_dir.expanduser()

    @field_validator("level", mode="before")
    @classmethod
    def _upper_level(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level

    @field_validator("log_format", mode="before")
    @classmethod
    def _lower_log_format(cls, log_format: object) -> object:
        return log_format.lower() if isinstance(log_format, str) else log_format

    @field_validator("roles", mode="before")
    @classmethod
    def _parse_roles(cls, roles: object) -> object:
        parts = roles.split(",") if isinstance(roles, str) else roles
        if not isinstance(parts, list | tuple):
            return roles
        return tuple(dict.fromkeys(part.strip().lower() if isinstance(part, str) else part for part in parts))

    @field_validator("roles")
    @classmethod
    def _check_roles(cls, roles: tuple[Role, ...]) -> tuple[Role, ...]:
        if not roles:
            raise ValueError("expected 'api', 'scheduler', or both")
        return roles

    @field_validator("allow_target", "deny_target", mode="before")
    @classmethod
    def _parse_target_rules(cls, rules: object) -> object:
        # The environment has no lists: rules are separated by commas there.
        return parse_rules(rules)

    @field_validator("egress_proxy")
    @classmethod
    def _check_egress_proxy(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_proxy_url(url.get_secret_value())
        return url

    @field_validator("admin_token")
    @classmethod
    def _check_admin_token(cls, token: SecretStr | None) -> SecretStr | None:
        text = "" if token is None else token.get_secret_value()
        if not text.isascii() or any(not c.isprintable() or c == " " for c in text):
            raise ValueError("expected printable ASCII characters without spaces, as metadata can carry them")
        if text and (len(text) < _ADMIN_TOKEN_LENGTH or len(set(text)) < _ADMIN_TOKEN_LETTERS):
            raise ValueError(
                f"expected at least {_ADMIN_TOKEN_LENGTH} random characters, which no guess meets; "
                "`openssl rand -hex 32` makes them"
            )
        return token if text else None

    @property
    def log_level(self) -> str:
        """Least severe log lines that are written, as the logging module calls it."""
        return "DEBUG" if self.level == "DEVELOPMENT" else self.level

    @property
    def history_ms(self) -> int:
        """Milliseconds that an ended task and its timeline are kept."""
        seconds = self.service.history
        return 1000 * (self.database.redis.expiration_key if seconds is None else seconds)

    @property
    def admin_address(self) -> tuple[str, int] | None:
        """Where the admin endpoint listens, host and port; None: there is none."""
        return None if self.admin_port is None else (self.admin_host, self.admin_port)

    @property
    def redis_url(self) -> SecretStr | None:
        """Address of the external store, credentials included; None means the embedded one."""
        return self.database.redis.address

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what is passed and nothing else: `load_settings` merges, so that a fault names its source."""
        return (init_settings,)
