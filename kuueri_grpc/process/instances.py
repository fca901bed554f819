"""Who serves a store, asked from outside."""

from collections.abc import Sequence

from kuueri_grpc.config import Settings
from kuueri_grpc.ports import Sighting
from kuueri_grpc.process.store import running_store
from kuueri_grpc.store.instances import RedisInstanceRegistry


async def live_instances(settings: Settings) -> Sequence[Sighting]:
    """Return the instances on the store that the settings name.

    Raises:
        StartError: there can be no embedded store in the data directory.
        StoreUnavailable: the store does not answer.
    """
    async with running_store(settings).connect() as client:
        return await RedisInstanceRegistry(client).sightings()
