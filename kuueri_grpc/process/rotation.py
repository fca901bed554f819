"""The keys of a running store, seen and changed from outside: what `kuueri keys` does."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kuueri_grpc.config import Settings
from kuueri_grpc.crypto.keyring import Keyring
from kuueri_grpc.ports import Sighting
from kuueri_grpc.process.errors import StartError
from kuueri_grpc.process.keys import present_keys
from kuueri_grpc.process.store import running_store
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.connection import UnfitStore
from kuueri_grpc.store.instances import RedisInstanceRegistry
from kuueri_grpc.store.key_registry import KeyRegistry, check_keys
from kuueri_grpc.store.rotation import BATCH, Rotation, Tally
from kuueri_grpc.store.scripts import ScriptRunner
from kuueri_grpc.store.settings import StoreSettings
from kuueri_grpc.store.vault import Vault

__all__ = ["BATCH", "KeyRotation", "KeyState", "Tally", "key_rotation", "key_states"]


@dataclass(frozen=True, slots=True)
class KeyState:
    """One key: whether it seals what is new here, is configured here, and may have records in the store.

    `lacked_by`: instances that serve the store and do not have it.
    """

    key_id: str
    newest: bool
    here: bool
    in_use: bool
    lacked_by: Sequence[str]


class KeyRotation:
    """Moves all records of a store to the newest key. Make it with `key_rotation`."""

    def __init__(self, client: Commands, keyring: Keyring, partitions: int, batch: int) -> None:
        self._keyring = keyring
        self._registry = KeyRegistry(client)
        self._instances = RedisInstanceRegistry(client)
        runner = ScriptRunner(client, StoreSettings(partitions=partitions))
        self._rotation = Rotation(client, runner, partitions, Vault(keyring), batch)
        #: Keys that no record is sealed under any more, when `run` has ended.
        self.retired: list[str] = []
        #: Records that were sealed anew so far, in all that `run` went over.
        self.resealed = 0

    async def run(self) -> AsyncGenerator[Tally, None]:
        """Go over all records until none is left under an older key; give the tally after each step.

        Each time it goes over them it has a tally of its own; `resealed` counts all.

        Raises:
            StartError: a server that lives would go on sealing with another key, or could not read.
            StoreUnavailable: the store does not serve; the next run goes on from here.
        """
        await self._check_instances()
        await self._registry.note_newest(self._keyring)
        while True:
            tally = Tally()
            before = self.resealed
            async for tally in self._rotation.run():
                self.resealed = before + tally.resealed
                yield tally
            await self._check_instances()
            if not tally.resealed:
                break  # all was looked at since the last server began to seal with the newest key
        older = [key_id for key_id in await self._registry.in_use() if key_id != self._keyring.newest.key_id]
        await self._registry.retire(older)
        self.retired = older

    async def _check_instances(self) -> None:
        newest = self._keyring.newest.key_id
        for sighting in await self._instances.sightings():
            instance = sighting.instance
            if instance.keys[:1] == (newest,):
                continue
            seals = f"seals with {instance.keys[0]!r}" if instance.keys else "is of a version without keys"
            lacks = "" if newest in instance.keys or not instance.keys else f", and does not have {newest!r}"
            raise StartError(
                f"instance {instance.instance_id} (process {instance.pid} on {instance.host}) {seals}{lacks};"
                f" restart it with {newest!r} as its first key, then call this again. One that was killed is "
                "forgotten after 30 s"
            )


@asynccontextmanager
async def key_rotation(settings: Settings, batch: int = BATCH) -> AsyncIterator[KeyRotation]:
    """Give the rotation of the store that the settings name.

    Raises:
        StartError: there is no store or no key, or the keys are not those of the store.
        StoreUnavailable: the store does not answer.
    """
    keyring = present_keys(settings)
    async with running_store(settings).connect() as client:
        registry = KeyRegistry(client)
        partitions = await registry.partitions()
        if partitions is None:
            raise StartError("the store is empty: no server has used it yet")
        try:
            check_keys(await registry.in_use(), keyring)
        except UnfitStore as error:
            raise StartError(str(error)) from None
        yield KeyRotation(client, keyring, partitions, batch)


async def key_states(settings: Settings) -> list[KeyState]:
    """Return all keys that are configured or in use, the newest first.

    Raises:
        StartError: there is no store or no key.
        StoreUnavailable: the store does not answer.
    """
    keyring = present_keys(settings)
    async with running_store(settings).connect() as client:
        in_use = await KeyRegistry(client).in_use()
        seen = await RedisInstanceRegistry(client).sightings()
    missing = sorted(in_use.keys() - set(keyring.ids))
    return [
        KeyState(
            key_id=key_id,
            newest=key_id == keyring.newest.key_id,
            here=key_id in keyring.ids,
            in_use=key_id in in_use,
            lacked_by=_lacking(key_id, seen),
        )
        for key_id in (*keyring.ids, *missing)
    ]


def _lacking(key_id: str, seen: Sequence[Sighting]) -> list[str]:
    return [s.instance.instance_id for s in seen if key_id not in s.instance.keys]
