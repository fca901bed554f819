"""Numbers that the engine runs by."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How much one process does at once, and how long it holds what it took.

    `max_in_flight`: attempts at once. `max_bytes`: of all their requests. `claim_batch`: tasks per claim
    call and partition (a script must stay short for the store's other clients). `lease_ms`: how long a
    claim holds without renewal; a crash is noticed after that. `linger_ms`: with all slots taken, how long
    to let freed slots gather before the next claim. `regain_ms`: after an outage of the store, how long
    instances have to renew their leases before anybody claims. `heartbeat_ms`: silence on a Watch stream
    before a heartbeat.
    """

    max_in_flight: int = 1_000
    max_bytes: int = 256 << 20
    claim_batch: int = 100
    lease_ms: int = 5_000
    linger_ms: int = 3
    regain_ms: int = 1_000
    heartbeat_ms: int = 15_000
    maintenance_ms: int = 60_000
