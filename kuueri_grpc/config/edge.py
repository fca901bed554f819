"""Settings of the edge: how calls come in, and how many."""

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from kuueri_grpc.config.section import Section

#: Bytes that a task can have beside its body: headers, URL, labels.
_BESIDE_BODY = 131_072


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
    """Limits on what a task sends, and on what comes back."""

    max_body_length: int = Field(1_048_576, ge=1)
    """Largest body of a task, in bytes."""
    max_answer_length: int = Field(67_108_864, ge=1)
    """Largest body of a success answer, in bytes as they come over the wire. It is read to its end and not
    kept; with a longer one the attempt has failed (CONNECTION_LOST). Of an error answer at most 65,536 are
    read."""


class GrpcSettings(Section):
    """What one connection, and one message, may come to."""

    max_message_length: int = Field(8_388_608, ge=65_536)
    """Largest request, a whole BatchSubscribe included, in bytes."""
    max_metadata_length: int = Field(16_384, ge=1_024)
    """Largest metadata of a call, in bytes."""
    max_concurrent_streams: int = Field(2_000, ge=1)
    """Calls under way on one connection, watches among them; more wait at the client."""
    max_connections: int = Field(4_096, ge=16)
    """Connections of clients that one process has open; fewer where it may not have that many files open."""
    max_watches: int = Field(2_000, ge=1)
    """Watch streams of one project that one process has open."""
    max_open_streams: int = Field(100, ge=1)
    """Streams of one address that need no token (health, reflection) that one process has open."""
    max_connection_age: int = Field(3_600, ge=0)
    """Seconds after which a connection takes no new calls, so that clients connect anew; 0: never."""
    max_connection_age_grace: int = Field(3_600, ge=1)
    """Seconds that calls under way have then. No watch lasts longer than that, on any connection."""
    max_connection_idle: int = Field(900, ge=0)
    """Seconds without a call after which a connection is closed; 0: never."""
    keepalive_time: int = Field(60, ge=1)
    """Seconds of silence after which a client is pinged."""
    keepalive_timeout: int = Field(20, ge=1)
    """Seconds that it has to answer before it is taken for gone."""
    min_ping_interval: int = Field(10, ge=1)
    """Seconds that clients have to leave between pings of their own; the third that is early ends it."""
    handshake_timeout: int = Field(20, ge=1)
    """Seconds that a client has for the handshakes of TLS and HTTP/2."""


class ThrottlerSettings(Section):
    """How much may come in a window of time. 0 sets no limit."""

    ttl: int = Field(60, ge=1)
    """Length of the window, in seconds."""
    limit: int = Field(0, ge=0)
    """Calls of one project, over all processes; a task of a BatchSubscribe counts as a call."""
    auth_failures: int = Field(60, ge=0)
    """Calls from one address without a valid token, in one process."""
    registrations: int = Field(60, ge=0)
    """Calls of Register from one address, in one process."""


class ModuleSettings(Section):
    """Settings of the edge."""

    http: HttpSettings = HttpSettings()
    grpc: GrpcSettings = GrpcSettings()
    throttler: ThrottlerSettings = ThrottlerSettings()

    @model_validator(mode="after")
    def _check_largest_task_fits(self) -> Self:
        needed = self.http.max_body_length + _BESIDE_BODY
        if self.grpc.max_message_length < needed:
            raise ValueError(
                f"GRPC.MAX_MESSAGE_LENGTH is too small for a task of HTTP.MAX_BODY_LENGTH, "
                f"expected {needed} or more"
            )
        return self
