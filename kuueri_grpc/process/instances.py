"""Who serves a store, asked from outside."""

from collections.abc import Sequence

from kuueri_grpc.config import Settings
from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import Sighting
from kuueri_grpc.process.store import running_store
from kuueri_grpc.store.instances import RedisInstanceRegistry
from kuueri_grpc.store.probe import said


async def live_instances(settings: Settings) -> Sequence[Sighting]:
    """Return the instances on the store that the settings name.

    Raises:
        StartError: there can be no embedded store in the data directory.
        StoreUnavailable: the store does not answer; the text says where it was looked for.
    """
    address = running_store(settings)
    async with address.connect() as client:
        try:
            return await RedisInstanceRegistry(client).sightings()
        except StoreUnavailable as error:
            why = said(error.__cause__ or error)
            raise StoreUnavailable(f"the store at {address.location} does not serve: {why}") from error
