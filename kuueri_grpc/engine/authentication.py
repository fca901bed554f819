"""Whose a token is: read from the store, and remembered for a while by every process.

A credential that ends is announced to all processes, which forget it at once and end the streams that it
opened. Where the announcement can be lost (there is no connection for signals), nothing is remembered.
"""

import asyncio
import hmac
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from kuueri_grpc.domain.access import Access
from kuueri_grpc.domain.errors import StoreUnavailable, Unauthenticated
from kuueri_grpc.engine import token_format
from kuueri_grpc.engine.backoff import TRANSIENT
from kuueri_grpc.engine.delayed_lookups import DelayedLookups
from kuueri_grpc.engine.streams import Stream, Streams
from kuueri_grpc.ports import Clock, Credential, ProjectStore

_log = logging.getLogger(__name__)

#: How long a credential is believed without asking the store, should an announcement be lost nevertheless.
_REMEMBERED_S = 5.0
_MOST_REMEMBERED = 10_000
#: After an outage, how soon streams whose credential could not be read are looked at again.
_LOOK_AGAIN_S = 1.0

#: What is compared with where there is no credential: the work is the same as with a wrong secret.
_NOBODY = secrets.token_bytes(32)


class Authenticator:
    """Tells callers apart, and ends the streams of those whose credential has ended."""

    def __init__(self, store: ProjectStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        # By the digest of the whole token: a wrong secret meets the store, as an unknown key id does. In the
        # order of their latest reading, and one that is used is read every few seconds: the first is the one
        # least used. One that has to be read anew stays, as that of a token that was valid lately.
        self._remembered: dict[bytes, tuple[float, Credential]] = {}
        self._delayed = DelayedLookups(self._look_up)
        #: Counts what was announced: what was read from the store before is not remembered after it.
        self._changes = 0
        self._hears = True
        self.streams = Streams()
        self._looks: set[asyncio.Task[None]] = set()

    async def authenticate(self, token: str, *, delayed: bool = False) -> Access:
        """Return whose `token` is and what it may do; `ended` if it may only repeat its rotation.

        `delayed`: it comes from where many are not valid. Unless this one was lately, it is looked up when
        those before it were, so that the store is asked at a bounded rate.

        Raises:
            Unauthenticated: it is malformed, mistyped, unknown, revoked or expired.
            StoreUnavailable: the store does not serve.
        """
        digest = token_format.digest(token)
        credential = self._known(digest)
        if credential is None:
            key_id = token_format.key_id_of(token)
            if delayed and digest not in self._remembered:
                credential = await self._delayed.credential(key_id, digest)
            else:
                credential = await self._look_up(key_id, digest)
        kept = _NOBODY if credential is None else credential.digest
        if not hmac.compare_digest(kept, digest) or credential is None:
            raise Unauthenticated("the token is not valid: it was revoked, or its project was deleted")
        return self._access(credential)

    def _known(self, digest: bytes) -> Credential | None:
        remembered = self._remembered.get(digest)
        return remembered[1] if remembered and remembered[0] > time.monotonic() else None

    def _access(self, credential: Credential) -> Access:
        now_ms, expiry = self._clock.now_ms(), credential.expire_time_ms
        ended = expiry is not None and expiry <= now_ms
        if ended and credential.repeat_until_ms <= now_ms:
            raise Unauthenticated("the token is not valid any more: it was rotated, or has run out")
        return Access(credential.project_id, credential.key_id, credential.scope, ended)

    async def _look_up(self, key_id: str, digest: bytes) -> Credential | None:
        changes = self._changes
        credential = await self._store.credential(token_format.project_id_of(key_id), key_id)
        self._remembered.pop(digest, None)
        if (
            credential is not None
            and credential.digest == digest
            and changes == self._changes
            and self._hears
        ):
            if len(self._remembered) >= _MOST_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest] = (time.monotonic() + _REMEMBERED_S, credential)
        return credential

    def forget(self, project_id: str) -> None:
        """Credentials of a project ended: believe none, and end the streams of those that did."""
        self._changes += 1
        for digest in [d for d, (_, kept) in self._remembered.items() if kept.project_id == project_id]:
            del self._remembered[digest]
        self._look_at(self.streams.of(project_id))

    def signals_lost(self) -> None:
        """Nothing is announced any more: ask the store each time."""
        self._hears = False
        self._forget_all()

    def signals_back(self) -> None:
        """What ends is announced again; what ended meanwhile was not."""
        self._hears = True
        self._forget_all()
        self._look_at(self.streams)

    def _forget_all(self) -> None:
        self._changes += 1
        self._remembered.clear()

    async def hold(self, stream: Stream) -> None:
        """Let an open stream end when the credential that opened it does.

        Raises:
            StoreUnavailable: the store does not serve.
        """
        # It may have ended since the call was admitted, and may be about to expire.
        await self._read(stream)

    def _look_at(self, streams: Iterable[Stream]) -> None:
        """Read the credentials of streams anew, once for all that have the same one."""
        by_key: defaultdict[str, list[Stream]] = defaultdict(list)
        for stream in streams:
            by_key[stream.access.key_id].append(stream)
        for those in by_key.values():
            look = asyncio.create_task(self._look(those))
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)

    async def _look(self, streams: Sequence[Stream]) -> None:
        while any(stream.open for stream in streams):
            try:
                await self._read(*streams)
            except TRANSIENT as error:
                _log.debug("a credential cannot be looked at, trying again: %s", error)
                await asyncio.sleep(_LOOK_AGAIN_S)
            except Exception:  # noqa: BLE001  no stream outlives what nobody can tell to be valid
                _log.exception(
                    "a credential cannot be read: the streams that it opened are ended",
                    extra={"event": "credential_unreadable", "project": streams[0].access.project_id},
                )
                for stream in streams:
                    stream.end(StoreUnavailable("the token that opened this stream cannot be read now"))
                break
            else:
                break

    async def _read(self, *streams: Stream) -> None:
        """Let streams that one credential opened end when it does."""
        access = streams[0].access
        credential = await self._store.credential(access.project_id, access.key_id)
        for stream in streams:
            if credential is None:
                stream.expire_in(0)
            elif credential.expire_time_ms is not None:
                stream.expire_in((credential.expire_time_ms - self._clock.now_ms()) / 1_000)
