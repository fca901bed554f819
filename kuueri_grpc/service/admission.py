"""Who may make a call: its token, the scope that it needs, and the admin token for those of the operator."""

import hashlib
import hmac
from collections.abc import Mapping

from kuueri_grpc.domain.access import Access, Scope
from kuueri_grpc.domain.errors import AdminTokenNotSet, Unauthenticated, check_scope
from kuueri_grpc.engine.authentication import Authenticator
from kuueri_grpc.engine.streams import Stream, Streams
from kuueri_grpc.engine.throttle import CallThrottle
from kuueri_grpc.service.auth import Metadata, TokenMissing, admit, bearer_token
from kuueri_grpc.service.message_errors import ScopeNotDeclared
from kuueri_grpc.service.peers import Peers

#: The one call that anybody may make where there is no admin token.
REGISTER = "ProjectService/Register"
#: Those of the operator: they are of no project, and no token of one opens them.
OPERATOR_CALLS = frozenset({REGISTER, "ProjectService/ListProjects", "ProjectService/SetProjectLimits"})
#: Those that a project makes for itself, and the operator for any.
SHARED_CALLS = frozenset({"ProjectService/CreateToken", "ProjectService/DeleteProject"})
#: Those that anybody may make: they cost nothing, and tell everyone the same.
OPEN_CALLS = frozenset({"ServerService/GetServerInfo"})
#: The one call that a token may still make which ended by it.
_ROTATE = "ProjectService/RotateToken"

#: The scope that each call needs, by service and method. A call that is not here is refused, whatever its
#: token, so that a method that is added later is not open by mistake.
SCOPES: Mapping[str, Scope] = {
    "TaskService/Subscribe": Scope.SUBSCRIBE,
    "TaskService/BatchSubscribe": Scope.SUBSCRIBE,
    "TaskService/GetTask": Scope.READ,
    "TaskService/ListTasks": Scope.READ,
    "TaskService/GetTimeline": Scope.READ,
    "TaskService/Watch": Scope.READ,
    "TaskService/Cancel": Scope.FULL,
    "TaskService/Pause": Scope.FULL,
    "TaskService/Resume": Scope.FULL,
    "TaskService/Purge": Scope.FULL,
    "TaskService/RunTask": Scope.FULL,
    "ProjectService/GetProject": Scope.READ,
    "ProjectService/RotateToken": Scope.FULL,
    "ProjectService/CreateToken": Scope.FULL,
    "ProjectService/ListTokens": Scope.FULL,
    "ProjectService/RevokeToken": Scope.FULL,
    "ProjectService/RotateSigningSecret": Scope.FULL,
    "ProjectService/DeleteProject": Scope.FULL,
}


class Admission:
    """Admits callers. `admin_token` None: anybody may register a project, and nobody is the operator."""

    def __init__(
        self,
        authenticator: Authenticator,
        throttle: CallThrottle,
        peers: Peers,
        admin_token: str | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._throttle = throttle
        self._peers = peers
        self._admin_digest = None if admin_token is None else _digest(admin_token)

    async def admit(self, name: str, metadata: Metadata, peer: str) -> None:
        """Note who makes the call `name` (service and method), for `auth.caller`; nobody is the operator's.

        `peer`: where it comes from, as gRPC has it.

        Raises:
            TokenMissing, Unauthenticated: there is no token, or none that is valid.
            ScopeMissing: the token may not make this call.
            ScopeNotDeclared: no token may.
            AdminTokenNotSet: nobody may.
            RateLimited: the project, or the peer, has made too many.
            StoreUnavailable: the store does not serve.
        """
        if name in OPEN_CALLS:
            return
        try:
            if name in OPERATOR_CALLS or (name in SHARED_CALLS and self._has_admin_token(metadata)):
                self._admit_operator(name, metadata, peer)
                return
            access = await self._authenticate(name, bearer_token(metadata), peer)
        except Unauthenticated:
            self._peers.failed(peer)
            raise
        self._throttle.take(access.project_id)
        scope = SCOPES.get(name)
        if scope is None:
            raise ScopeNotDeclared(name)
        check_scope(scope, access.scope)
        admit(access)

    async def _authenticate(self, name: str, token: str, peer: str) -> Access:
        wait_s = self._peers.wait_s(peer)
        try:
            access = await self._authenticator.authenticate(token, delayed=wait_s > 0)
            if access.ended and name != _ROTATE:
                raise Unauthenticated("the token is not valid any more: it was rotated")
        except Unauthenticated:
            # A token that is valid goes through, whatever else comes from its address.
            if wait_s:
                raise self._peers.refuse_failing(peer, wait_s) from None
            raise
        return access

    def _admit_operator(self, name: str, metadata: Metadata, peer: str) -> None:
        if name == REGISTER:
            self._peers.register(peer)
        if wait_s := self._peers.wait_s(peer):
            raise self._peers.refuse_failing(peer, wait_s)
        if self._admin_digest is not None:
            self._check_admin(name, metadata, self._admin_digest)
        elif name != REGISTER:
            raise AdminTokenNotSet

    def _has_admin_token(self, metadata: Metadata) -> bool:
        digest = self._admin_digest
        return digest is not None and hmac.compare_digest(digest, _digest(bearer_token(metadata)))

    @property
    def streams(self) -> Streams:
        """The streams of callers."""
        return self._authenticator.streams

    async def hold(self, stream: Stream) -> None:
        """See `Authenticator.hold`."""
        await self._authenticator.hold(stream)

    @staticmethod
    def _check_admin(name: str, metadata: Metadata, admin_digest: bytes) -> None:
        method = name.rpartition("/")[2]
        try:
            token = bearer_token(metadata)
        except TokenMissing:
            raise TokenMissing(
                f"this server takes {method} from those alone who have its admin token; expected the "
                "metadata `authorization: Bearer <admin token>`"
            ) from None
        if not hmac.compare_digest(admin_digest, _digest(token)):
            raise Unauthenticated(f"this is not the admin token of this server, which {method} needs")


def _digest(token: str) -> bytes:
    # What is compared has one length: not even that of the admin token can be learned.
    return hashlib.sha256(token.encode()).digest()
