"""Who calls: the token in a call's metadata, and the project that it was found to belong to."""

from collections.abc import Sequence
from contextvars import ContextVar

from kuueri_grpc.domain.access import Access
from kuueri_grpc.domain.errors import Unauthenticated
from kuueri_grpc.service.violations import shown

_METADATA_KEY = "authorization"
_SCHEME = "bearer"
_EXPECTED = "expected the metadata `authorization: Bearer <token>`, with the token that Register gave"

Metadata = Sequence[tuple[str, str | bytes]]

#: Each call runs in a task, hence in a context, of its own.
_access: ContextVar[Access] = ContextVar("access")


class TokenMissing(Unauthenticated):
    """The call carries no token."""


def caller() -> str:
    """Return the id of the project that the current call was admitted for."""
    return _access.get().project_id


def caller_or_operator() -> str | None:
    """Return the id of the project that the current call was admitted for; None: it is the operator's."""
    found = _access.get(None)
    return None if found is None else found.project_id


def access() -> Access:
    """Return what the current call was admitted with."""
    return _access.get()


def admit(access: Access) -> None:
    """Note who makes the current call."""
    _access.set(access)


def bearer_token(metadata: Metadata) -> str:
    """Return the token of a call.

    Raises:
        TokenMissing: There is none.
        Unauthenticated: What there is cannot be one.
    """
    values = [value for key, value in metadata if key == _METADATA_KEY]
    if not values:
        raise TokenMissing(f"no credentials came; {_EXPECTED}")
    if len(values) > 1:
        raise Unauthenticated(f"{len(values)} credentials came; {_EXPECTED}, once")
    value = values[0] if isinstance(values[0], str) else values[0].decode("ascii", "replace")
    scheme, _, token = value.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != _SCHEME:
        # A lone word may be the token itself: only what is followed by something is a scheme to repeat.
        came = f"have the scheme {shown(scheme)}" if token else "have no scheme"
        raise Unauthenticated(f"the credentials {came}; {_EXPECTED}")
    if not token:
        raise TokenMissing(f"no token follows Bearer; {_EXPECTED}")
    return token
