"""What the store's scripts are told."""

from dataclasses import dataclass

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Numbers that hold for every call.

    `history_ms`: how long an ended task is kept. `timeline_cap`: most events kept per
    task, see `lua/prelude.lua`. `feed_cap`: events
    kept per project, for watches of queues and projects. `max_losses`: lost leases of one attempt before
    POISON; after two of them only those count that came while it was watched. `request_id_ttl_ms`: how long
    a request_id is remembered, `replay_ms`: how long a purge is for a repeated call; both a day at the most.
    `call_timeout_ms`: how long the client waits for an answer. `regain_ms`: when a node of a cluster serves
    again, how long instances have to renew their leases before anybody claims there.
    """

    partitions: int = 256
    history_ms: int = 3 * DAY_MS
    timeline_cap: int = 10_000
    feed_cap: int = 10_000
    max_losses: int = 5
    request_id_ttl_ms: int = DAY_MS
    replay_ms: int = 600_000
    call_timeout_ms: int = 3_000
    regain_ms: int = 1_000
