"""Settings of the store: the embedded one's, and where an external one is."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from kuueri_grpc.config.section import Section

_SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")
_TLS_SCHEMES = ("rediss", "rediss+cluster")
#: Keys of `RedisTlsSettings`, and what redis-py calls them in a URL.
_TLS_PARAMETERS = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}


class RedisTlsSettings(Section):
    """Certificates for a store that is reached over TLS (rediss://), as PEM files."""

    ca: Path | None = None
    """The authorities that the store's certificate must come from; unset: those of the system."""
    cert: Path | None = None
    """The certificate to show to the store."""
    key: Path | None = None
    """The private key of that certificate, not encrypted."""

    @field_validator("ca", "cert", "key")
    @classmethod
    def _expand_home(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected CERT and KEY together, one of them is missing")
        return self

    @property
    def parameters(self) -> dict[str, str]:
        """The files as parameters of a URL."""
        files = {name: getattr(self, key) for key, name in _TLS_PARAMETERS.items()}
        return {name: str(path) for name, path in files.items() if path is not None}


class RedisSettings(Section):
    """An external Redis or Valkey. Without URL and HOST the server runs its own in DATA_DIR."""

    url: SecretStr | None = None
    """redis://, rediss:// (TLS) or unix:// address; redis+cluster://host:port[,host:port...], or with rediss,
    of a cluster. HOST and PORT are ignored beside it; USERNAME and PASSWORD are used where it has none."""
    host: str | None = Field(None, min_length=1)
    """Host of a single server, where URL is not set."""
    port: int = Field(6379, ge=1, le=65535)
    """Port of a single server."""
    username: str | None = None
    """User of the store's access control list; unset: the default user."""
    password: SecretStr | None = None
    """Password of the user."""
    tls: RedisTlsSettings = RedisTlsSettings()
    timeout_ms: int = Field(3000, ge=100, le=60_000)
    """Milliseconds that the store may take to connect, and to answer, before a call is given up."""
    expiration_key: int = Field(259_200, ge=1)
    """Seconds that an ended task is kept, under its older name; SERVICE.HISTORY comes first."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url.get_secret_value())
            # Of a cluster there may be several.
            hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
            _ = [host.port for host in hosts]  # the attribute parses, and raises
        except ValueError:
            raise ValueError("expected a URL, host or port do not parse") from None
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"expected a URL that starts with {', '.join(f'{s}://' for s in _SCHEMES)}")
        if parts.scheme != "unix" and not all(host.hostname for host in hosts):
            raise ValueError("expected a URL with a host")
        if len(hosts) > 1 and not parts.scheme.endswith("+cluster"):
            raise ValueError("expected one host; several are a cluster's: redis+cluster://")
        if (parts.scheme != "unix" and parts.path not in ("", "/", "/0")) or "db=" in parts.query:
            raise ValueError("expected a URL without a database number: databases 0 to 3 are used")
        for name, _ in parse_qsl(parts.query, keep_blank_values=True):
            if name not in _TLS_PARAMETERS.values():
                raise ValueError(
                    f"expected a URL without parameters; the files of TLS are set in TLS.CA, TLS.CERT and "
                    f"TLS.KEY, or as {', '.join(_TLS_PARAMETERS.values())}"
                )
        return url

    @model_validator(mode="after")
    def _check_credentials(self) -> Self:
        if self.url is None and self.host is None and (self.username or self.password):
            raise ValueError("USERNAME and PASSWORD are set, expected HOST or URL beside them")
        return self

    @model_validator(mode="after")
    def _check_tls_is_used(self) -> Self:
        scheme = "" if self.url is None else urlsplit(self.url.get_secret_value()).scheme
        if self.tls.parameters and scheme not in _TLS_SCHEMES:
            raise ValueError("TLS is set, expected a URL that starts with rediss:// or rediss+cluster://")
        return self

    @property
    def address(self) -> SecretStr | None:
        """URL of the store, credentials and files of TLS included; None: there is no external one."""
        if self.url is not None:
            url = self.url.get_secret_value()
            scheme, separator, rest = url.partition("://")
            if "@" not in urlsplit(url).netloc:
                rest = self._userinfo + rest
            if self.tls.parameters:
                rest += f"{'&' if '?' in rest else '?'}{urlencode(self.tls.parameters)}"
            return SecretStr(f"{scheme}{separator}{rest}")
        if self.host is None:
            return None
        host = f"[{self.host}]" if ":" in self.host else self.host
        return SecretStr(f"redis://{self._userinfo}{host}:{self.port}")

    @property
    def _userinfo(self) -> str:
        user = quote(self.username or "", safe="")
        password = "" if self.password is None else ":" + quote(self.password.get_secret_value(), safe="")
        return f"{user}{password}@" if user or password else ""


class DatabaseSettings(Section):
    """Where tasks are kept."""

    redis: RedisSettings = RedisSettings()
    fsync: Literal["always", "everysec"] = "always"
    """When the embedded store syncs to disk: before each answer, or once a second. The latter is faster on a
    slow disk and can lose what was accepted in the last second or two."""
    partitions: int = Field(256, ge=1, le=65_536)
    """Parts that projects are spread over; fixed by the first start on an empty store."""

    @field_validator("fsync", mode="before")
    @classmethod
    def _lower_fsync(cls, fsync: object) -> object:
        return fsync.lower() if isinstance(fsync, str) else fsync
