"""Attempts that may be what took their process down before: one at a time is watched in each process."""

import asyncio
from collections.abc import Callable

from kuueri_grpc.ports import Claim, Lease


class Suspects:
    """Who is watched. While somebody is, no other suspect may start: what happens then is not its doing."""

    def __init__(self) -> None:
        self._watched: dict[Lease, asyncio.TimerHandle] = {}
        self._tell: Callable[[], object] = lambda: None

    @property
    def busy(self) -> bool:
        """Whether one is watched."""
        return bool(self._watched)

    def on_room(self, tell: Callable[[], object]) -> None:
        """Call `tell` whenever the next one may start."""
        self._tell = tell

    def watch(self, claim: Claim) -> None:
        """A suspect starts. It is watched for as long as its claim says, or until it ends."""
        loop = asyncio.get_running_loop()
        self._watched[claim.lease] = loop.call_later(claim.watch_ms / 1_000, self.leave, claim.lease)

    def leave(self, lease: Lease) -> None:
        """An attempt has ended; of one that is not watched nothing comes."""
        if timer := self._watched.pop(lease, None):
            timer.cancel()
            if not self._watched:
                self._tell()
