"""Warn of a store that other programs use, too."""

import logging

from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.fitness import DATABASES
from kuueri_grpc.store.scripts import run_alone

_log = logging.getLogger(__name__)

#: Keys that are looked at in each database: a sample, as there may be millions.
_SAMPLE = 500


async def warn_of_foreign_keys(client: Commands) -> None:
    """Log that there are keys that are not this server's. Their names are not shown: they are another's.

    Nodes of a cluster are not looked at.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    if not client.one_server:
        return
    counts = await run_alone(client, "foreign", (), DATABASES, _SAMPLE)
    databases = [database for database, count in enumerate(counts) if count]
    if databases:
        _log.warning(
            "the store has keys that are not this server's (database %s); give it a store of its own: they "
            "take memory from its tasks, and a FLUSHDB meant for them would lose every task",
            ", ".join(map(str, databases)),
            extra={"event": "store_shared", "keys": sum(counts), "databases": databases},
        )
