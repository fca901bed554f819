"""The `StoreProbe` port, and the wait for a store that is about to serve."""

import asyncio
import logging
import time

from redis.exceptions import RedisError

from kuueri_grpc.crypto.keyring import Keyring
from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import UnfitStore
from kuueri_grpc.store import keys
from kuueri_grpc.store.cluster import ClusterClient
from kuueri_grpc.store.cluster_fitness import serves_in_part
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.connection import initialise
from kuueri_grpc.store.durability import warn_of_weak_durability
from kuueri_grpc.store.errors import ErrorKind, certificate_fault, kind_of, outages_mapped
from kuueri_grpc.store.foreign_keys import warn_of_foreign_keys
from kuueri_grpc.store.observer import StoreObserver

_log = logging.getLogger(__name__)

#: What a client is told while the store is unfit: it is for the operator to know why.
_REFUSAL = "the store does not serve now: it is not fit for use, the log of this server says why"
#: How long an unreachable store is tried when the server starts.
_PATIENCE_S = 5.0
_TRY_AGAIN_S = 0.25


class RedisStoreProbe:
    """`ports.StoreProbe`.

    Args:
        checks: the client to look with, see `StoreAddress.connect_for_checks`.
        served: the client that everything else uses; refused its calls while the store is unfit.
        partitions: how many the store must have been initialised with.
        keyring: keys that must open whatever is in it.
        observer: told of every look: of a server that has nothing to do, nothing else shows an outage.
    """

    def __init__(
        self,
        checks: Commands,
        served: Commands,
        partitions: int,
        keyring: Keyring,
        observer: StoreObserver,
    ) -> None:
        self._checks = checks
        self._served = served
        self._partitions = partitions
        self._keyring = keyring
        self._observer = observer
        self._epoch: str | None = None

    async def check(self) -> str:
        """See `ports.StoreProbe`."""
        try:
            epoch = await self._look()
        except UnfitStore:
            self._served.refuse(_REFUSAL)
            raise
        except StoreUnavailable:
            if self._epoch is None or not await self._serves_in_part():
                raise
            # It is only the node of a cluster that knows the store's identity.
            epoch = self._epoch
        self._epoch = epoch
        self._served.refuse(None)
        return epoch

    async def _look(self) -> str:
        with self._observer.call("probe"):
            epoch = await initialise(self._checks, self._partitions, self._keyring)
            # There is no such field. A write all the same, so it is refused whenever writes are (READONLY,
            # MISCONF, NOREPLICAS), except where memory is short: what frees some is taken then, too.
            await self._checks.hdel(keys.STORE, "probe")
        return epoch

    async def _serves_in_part(self) -> bool:
        checks = self._checks
        return isinstance(checks, ClusterClient) and await serves_in_part(checks, self._partitions)

    async def warn(self) -> None:
        """Log what a crash of the store would cost, if that is more than it need be, and who else uses it."""
        with outages_mapped():
            await warn_of_weak_durability(self._checks)
        await warn_of_foreign_keys(self._checks)


async def await_store(probe: RedisStoreProbe, location: str, patience_s: float = _PATIENCE_S) -> str:
    """Return the epoch of the store's data when the store serves.

    While it loads its data it is waited for; unreachable, or refusing writes, it is tried for `patience_s`. A
    refusal that lasts (credentials, certificates) ends it at once.

    Args:
        probe: looks at the store.
        location: what the store is called in errors, without credentials.
        patience_s: how long to try.

    Raises:
        UnfitStore: it must not be used as it is.
        StoreUnavailable: it does not serve; the text names it and says why.
    """
    deadline = time.monotonic() + patience_s
    told = False
    while True:
        try:
            epoch = await probe.check()
            await probe.warn()
        except StoreUnavailable as error:
            cause = error.__cause__ or error
            if kind_of(cause) is ErrorKind.LOADING:
                if not told:
                    _log.warning("the store at %s is loading its data; waiting until it has", location)
                    told = True
                deadline = time.monotonic() + patience_s
            elif time.monotonic() > deadline or _lasts(cause):
                raise StoreUnavailable(f"the store at {location} does not serve: {said(cause)}") from error
            await asyncio.sleep(_TRY_AGAIN_S)
        else:
            return epoch


def _lasts(cause: BaseException) -> bool:
    """Return whether the failure stays until somebody changes a setting, here or there."""
    return kind_of(cause) is ErrorKind.AUTH or bool(certificate_fault(cause))


def said(cause: BaseException) -> str:
    """Return in words why a store does not serve, for the operator."""
    if fault := certificate_fault(cause):
        return f"its certificate is not accepted: {fault}"
    if isinstance(cause, RedisError | OSError) and str(cause):
        return str(cause)
    return "it does not answer in time" if isinstance(cause, TimeoutError) else str(cause)
