"""Settings of the edge: how calls come in, and how many."""

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from kuueri_grpc.config.section import Section


class TlsSettings(Section):
    """Certificates of the gRPC port, as PEM files; they are read anew when they have changed."""

    cert: Path | None = None
    """The server's certificate, followed by those of the authorities between it and the root."""
    key: Path | None = None
    """The private key of the certificate, not encrypted."""
    client_ca: Path | None = None
    """The authorities that a client's certificate must come from; unset: clients need none."""

    @field_validator("cert", "key", "client_ca")
    @classmethod
    def _expand_home(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected CERT and KEY together, one of them is missing")
        if self.client_ca is not None and self.cert is None:
            raise ValueError("CLIENT_CA is set, expected CERT and KEY beside it")
        return self


class HttpSettings(Section):
    """Limits on what a task sends."""

    max_body_length: int = Field(1_048_576, ge=1)
    """Largest body of a task, in bytes."""


class ThrottlerSettings(Section):
    """Calls that one client may make."""

    ttl: int = Field(60, ge=1)
    """Length of the window, in seconds."""
    limit: int = Field(0, ge=0)
    """Calls per client in a window; 0 sets no limit."""


class ModuleSettings(Section):
    """Settings of the edge."""

    http: HttpSettings = HttpSettings()
    throttler: ThrottlerSettings = ThrottlerSettings()
