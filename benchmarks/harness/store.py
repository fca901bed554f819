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
        await self._quiet()
        self._client.bgsave()
        await self._quiet()

    async def _quiet(self) -> None:
        """Return when the store writes neither a snapshot nor its append-only file anew."""
        while True:
            state = self.info("persistence")
            if not (state["rdb_bgsave_in_progress"] or state["aof_rewrite_in_progress"]):
                return
            await asyncio.sleep(_SNAPSHOT_POLL_S)
