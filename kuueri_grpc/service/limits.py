"""The limits of a request that an operator can set."""

from dataclasses import dataclass, field

from kuueri_grpc.domain.target_policy import TargetPolicy


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a request may be, and where a task may be sent.

    Sizes in bytes; what is over a limit is refused, naming the field.
    """

    max_body_bytes: int = 1_048_576
    max_header_bytes: int = 81_920
    max_url_length: int = 2_083
    max_batch: int = 1_000
    targets: TargetPolicy = field(default_factory=TargetPolicy)
