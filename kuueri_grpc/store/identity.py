"""What a store is, to be shown to whoever asks: never where it is."""

from kuueri_grpc.ports import StoreIdentity, StoreKind
from kuueri_grpc.store.cluster import ClusterClient
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.errors import OUTAGES
from kuueri_grpc.store.fitness import hidden_as_nothing, product_of


async def identify(client: Commands, *, embedded: bool) -> StoreIdentity:
    """Return what the store says it is. It is no fault that it does not say, or does not answer."""
    kind, server = StoreKind.EMBEDDED if embedded else StoreKind.EXTERNAL, client
    try:
        if isinstance(client, ClusterClient):
            kind = StoreKind.CLUSTER
            server = client.nodes.client(min((await client.nodes.topology()).nodes))
        facts = await hidden_as_nothing(server.info("server"))
    except OUTAGES:
        return StoreIdentity(kind)
    return StoreIdentity(kind, *product_of(facts)) if facts else StoreIdentity(kind)
