"""The embedded store of a server that is measured, asked over its socket."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from redis import Redis

from kuueri_grpc.store.data_dir import socket_path

_SNAPSHOT_POLL_S = 0.1


class StoreProbe:
    """What a store says of itself."""

    def __init__(self, client: "Redis") -> None:
        self._client = client
        self.pid = int(self.info("server")["process_id"])

    @classmethod
    @contextlib.contextmanager
    def open(cls, data_dir: Path) -> Iterator[Self]:
        """Ask the store in a data directory for as long as the block lasts."""
        with Redis(unix_socket_path=str(socket_path(data_dir))) as client:
            yield cls(client)

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of INFO."""
        answer: dict[str, Any] = self._client.info(section)
        return answer

    def used_memory(self) -> int:
        """Return the bytes that the store has allocated."""
        return int(self.info("memory")["used_memory"])

    async def snapshot(self) -> None:
        """Have a snapshot made now and return when it is, so that none falls into what is measured next."""
        before = self.info("persistence")["rdb_last_save_time"]
        # The time has whole seconds: two snapshots within one could not be told apart.
        await asyncio.sleep(1)
        self._client.bgsave()
        while True:
            state = self.info("persistence")
            if not state["rdb_bgsave_in_progress"] and state["rdb_last_save_time"] > before:
                return
            await asyncio.sleep(_SNAPSHOT_POLL_S)
