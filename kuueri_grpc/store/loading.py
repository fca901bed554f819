"""What the log is told while the embedded store loads its data."""

import logging
import time

from redis.asyncio import Redis
from redis.exceptions import RedisError

_log = logging.getLogger(__name__)

#: Most are loaded before anybody would want to be told.
_FIRST_S, _NEXT_S = 1.0, 5.0


class LoadingReport:
    """Says now and then how far a server has come."""

    def __init__(self) -> None:
        self._due = time.monotonic() + _FIRST_S

    async def go_on(self, client: Redis) -> None:
        """Log how far it is, if it was not said a moment ago."""
        if time.monotonic() < self._due:
            return
        try:
            progress = await client.info("persistence")
        except (RedisError, OSError):
            return
        self._due = time.monotonic() + _NEXT_S
        if not progress.get("loading"):
            return
        percent, left_s = float(progress["loading_loaded_perc"]), int(progress["loading_eta_seconds"])
        _log.info(
            "the embedded store is loading its data: %.0f %% is there, about %d s to go",
            percent,
            left_s,
            extra={"event": "embedded_store_loading", "percent": percent},
        )
