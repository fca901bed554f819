"""The limits of connections and peers. Most are in the terms of gRPC, which enforces them itself."""

from dataclasses import dataclass

from kuueri_grpc.engine.buckets import Rate

#: Pings that come too early before a connection is closed for it.
_PING_STRIKES = 2
#: Calls of one method that have arrived and were not taken yet; each takes some 15 KB.
_PENDING = 2_500
_NO_LIMIT_S = 1_000_000


@dataclass(frozen=True, slots=True)
class WireLimits:
    """What a connection may do. Sizes in bytes, times in seconds.

    `max_message_bytes` bounds a whole request, for a batch far below what its tasks may have in all; most
    methods have a smaller limit, see `method_limits`. `max_open_streams`: streams of one address that need no
    token, in this process.
    `max_connections`: those that the process has open; more are closed as they come, see `connections`.
    `max_streams`: calls under way on one connection; others wait at the client. `max_watches`: streams of
    one project in this process. A connection that is older than `max_age_s` (give or take 10 %) is closed
    for new calls, and `age_grace_s` later for those under way; None: never. One without calls is closed
    after `max_idle_s`. A connection is pinged after `keepalive_s` without a sign of life, and is taken for
    dead when no answer comes within `keepalive_timeout_s`; the client may ping every `min_ping_s`. A
    connection has `handshake_s` to become one.

    `peer_failures`, `peer_registrations`: see `Peers`; None: no limit.
    """

    max_message_bytes: int = 8_388_608
    max_metadata_bytes: int = 16_384
    max_connections: int = 4_096
    max_streams: int = 2_000
    max_watches: int = 2_000
    max_open_streams: int = 100
    max_age_s: float | None = 3_600
    age_grace_s: float = 3_600
    max_idle_s: float | None = 900
    keepalive_s: float = 60
    keepalive_timeout_s: float = 20
    min_ping_s: float = 10
    handshake_s: float = 20
    peer_failures: Rate | None = None
    peer_registrations: Rate | None = None

    @property
    def longest_stream_s(self) -> float | None:
        """How long a stream may last so that gRPC never cuts it; None: for ever."""
        return None if self.max_age_s is None else self.age_grace_s

    def options(self, listeners: int = 1) -> list[tuple[str, int]]:
        """Return them as gRPC's arguments of a server that listens on so many addresses."""
        options = [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            # Messages are unpacked later, each no further than the limit of its method: see `unpack`.
            ("grpc.per_message_decompression", 0),
            # What a client takes is for it to say.
            ("grpc.max_send_message_length", -1),
            # Beyond the first, gRPC refuses some calls at random, beyond the second all.
            ("grpc.max_metadata_size", self.max_metadata_bytes),
            ("grpc.absolute_max_metadata_size", self.max_metadata_bytes),
            # What a call may send before its message is asked for: 64 KiB, however fast the connection.
            ("grpc.http2.bdp_probe", 0),
            # Each listener counts by itself.
            ("grpc.max_allowed_incoming_connections", max(1, self.max_connections // listeners)),
            ("grpc.max_concurrent_streams", self.max_streams),
            # gRPC cancels some of them beyond the first number (1,000 by default), all beyond the second, and
            # each that has waited for longer than the third (30 s). Its client then reads CANCELLED, as if it
            # had cancelled the call itself.
            ("grpc.server.max_pending_requests", _PENDING),
            ("grpc.server.max_pending_requests_hard_limit", _PENDING),
            ("grpc.server_max_unrequested_time_in_server", _NO_LIMIT_S),
            ("grpc.keepalive_time_ms", _ms(self.keepalive_s)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_timeout_s)),
            # A ping that has no answer ends the connection after the longer one of the two.
            ("grpc.http2.ping_timeout_ms", _ms(self.keepalive_timeout_s)),
            # For clients: whether they have calls open or not.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", _ms(self.min_ping_s)),
            ("grpc.http2.max_ping_strikes", _PING_STRIKES),
            ("grpc.server_handshake_timeout_ms", _ms(self.handshake_s)),
        ]
        if self.max_age_s is not None:
            options.append(("grpc.max_connection_age_ms", _ms(self.max_age_s)))
            options.append(("grpc.max_connection_age_grace_ms", _ms(self.age_grace_s)))
        if self.max_idle_s is not None:
            options.append(("grpc.max_connection_idle_ms", _ms(self.max_idle_s)))
        return options


def _ms(seconds: float) -> int:
    return round(1_000 * seconds)
