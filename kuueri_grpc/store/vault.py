"""What the store keeps sealed: the requests of tasks and the signing secrets of projects.

A request is sealed as a whole, and bound to its project and task; a signing secret is bound to its project.
What scripts need to see stays as it is: states, times, counters, queues, policies, labels.
"""

import base64
import functools
import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

from kuueri_grpc.crypto.keyring import Keyring
from kuueri_grpc.crypto.sealing import KeyMissing, NotOpened, Sealer
from kuueri_grpc.domain.task import UNREADABLE_TARGET, HttpTarget
from kuueri_grpc.store import codec

_log = logging.getLogger(__name__)

#: A lane is kept in the clear as a number: one of three bytes. Two targets hardly ever share one.
LANES = 1 << 23

#: Projects whose opened signing secrets are remembered.
_REMEMBERED = 4_096

#: A signing secret with the instant (ms) of its expiry, None while it is the one in force.
SigningSecret = tuple[str, int | None]


class Vault:
    """Seals what is to be kept, and opens what was."""

    def __init__(self, keyring: Keyring) -> None:
        self.keyring = keyring
        self._sealer = Sealer(keyring)
        # A claim brings the secrets of every project in it: they are the same again and again.
        self._signing = functools.lru_cache(_REMEMBERED)(self._open_signing)
        #: The lane (0 .. LANES-1) of an absolute URL's origin: where its tasks wait while it has no room. It
        #: takes the key to find another origin of the same lane, or to tell the origin.
        self.lane_of = functools.lru_cache(_REMEMBERED)(self._lane_of)

    @property
    def newest_head(self) -> bytes:
        """What every request under the newest key begins with, and no other."""
        return self._sealer.head

    def seal_request(self, project_id: str, task_id: str, target: HttpTarget) -> bytes:
        """Return the request of a task as it is kept."""
        return self._sealer.seal(_request_place(project_id, task_id), codec.pack_request(target))

    def open_request(self, project_id: str, task_id: str, kept: bytes | None) -> HttpTarget:
        """Return the request of a task; `kept` None: there is none, though there should be.

        Raises:
            KeyElsewhere: its key is not here; who has it can read the request.
            CorruptRecord: nobody can.
        """
        if kept is None:
            raise codec.CorruptRecord("its request is missing")
        return codec.unpack_request(self._open(_request_place(project_id, task_id), kept, "request"))

    def show_request(self, project_id: str, task_id: str, kept: bytes) -> HttpTarget:
        """Return the request of a task; UNREADABLE_TARGET, and a line in the log, where it cannot be read."""
        try:
            return self.open_request(project_id, task_id, kept)
        except codec.CorruptRecord as error:
            _log.error(
                "a task is shown without its request: %s",
                error,
                extra={"event": "request_unreadable", "project": project_id, "task": task_id},
            )
            return UNREADABLE_TARGET

    def reseal_request(self, project_id: str, task_id: str, kept: bytes) -> bytes:
        """Return the request under the newest key. Raises as `open_request`."""
        place = _request_place(project_id, task_id)
        return self._sealer.seal(place, self._open(place, kept, "request"))

    def seal_signing(self, project_id: str, secret: str) -> str:
        """Return a signing secret as it is kept."""
        return base64.b64encode(self._sealer.seal(_signing_place(project_id), secret.encode())).decode()

    def live_signing(self, project_id: str, kept: bytes, now_ms: int) -> tuple[str, ...]:
        """Return the secrets to sign with at `now_ms`, the newest first.

        A former secret that does not open is left out: a rotation repairs a project.

        Raises:
            KeyElsewhere, CorruptRecord: the newest does not open; as for `open_request`.
        """
        return tuple(s for s, expiry in self._signing(project_id, kept) if expiry is None or expiry > now_ms)

    def reseal_signing(self, project_id: str, kept: bytes) -> str | None:
        """Return a project's signing secrets under the newest key; None where they are already.

        Raises as `open_request`.
        """
        secrets = codec.unpack_signing(kept)
        if all(_unarmoured(sealed).startswith(self.newest_head) for sealed, _ in secrets):
            return None
        return codec.pack_signing(
            [
                (self.seal_signing(project_id, self._open_secret(project_id, sealed)), expiry)
                for sealed, expiry in secrets
            ]
        )

    def fingerprints(self, project_id: str, fingerprint: str) -> str:
        """Return what is kept of a request's digest, then what else may have been kept under older keys.

        The digest itself would let who reads the store try what the request may have been.
        """
        return " ".join(self._sealer.digests(f"{project_id}\0{fingerprint}".encode()))

    def _lane_of(self, url: str) -> int:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()
        return self._sealer.number(f"lane\0{origin}".encode(), LANES)

    def _open_signing(self, project_id: str, kept: bytes) -> Sequence[SigningSecret]:
        opened: list[SigningSecret] = []
        for place, (sealed, expiry) in enumerate(codec.unpack_signing(kept)):
            try:
                opened.append((self._open_secret(project_id, sealed), expiry))
            except codec.CorruptRecord as error:
                if place == 0:
                    raise
                _log.error(
                    "requests are not signed with a former secret: %s",
                    error,
                    extra={"event": "signing_secret_unreadable", "project": project_id},
                )
        return opened

    def _open_secret(self, project_id: str, sealed: str) -> str:
        opened = self._open(_signing_place(project_id), _unarmoured(sealed), "signing secret")
        return opened.decode()

    def _open(self, place: bytes, kept: bytes, what: str) -> bytes:
        try:
            return self._sealer.open(place, kept)
        except KeyMissing as error:
            raise codec.KeyElsewhere(f"its {what} cannot be read: {error}", error.key_id) from None
        except NotOpened as error:
            raise codec.CorruptRecord(f"its {what} cannot be read: {error}") from None


# Ids have no NUL, so no two places are spelled alike.
def _request_place(project_id: str, task_id: str) -> bytes:
    return f"request\0{project_id}\0{task_id}".encode()


def _signing_place(project_id: str) -> bytes:
    return f"signing\0{project_id}".encode()


def _unarmoured(sealed: str) -> bytes:
    try:
        return base64.b64decode(sealed, validate=True)
    except ValueError:
        return b""  # which is no sealed record
