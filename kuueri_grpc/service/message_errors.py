"""Why the message of a call was not taken."""

from kuueri_grpc.domain.errors import KuueriError


class MessageTooLarge(KuueriError):
    """The message has more than `limit` bytes, once unpacked."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the message of this call is too large; at most {limit:,} bytes are allowed")
        self.limit = limit


class MessageLate(KuueriError):
    """The message did not arrive in the time that the server waits for one."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"the message of this call did not arrive within {wait_s:g} s")


class TooManyOpenStreams(KuueriError):
    """The address has as many streams of methods that need no token as it may."""

    def __init__(self, peer: str, limit: int) -> None:
        super().__init__(
            f"the address {peer} has {limit} streams open that need no token, the most it may; end some first"
        )
        self.peer = peer
        self.limit = limit


class ScopeNotDeclared(KuueriError):
    """The method declares no scope: no token opens it."""

    def __init__(self, method: str) -> None:
        super().__init__(f"{method} is not open to any token")
