"""Reading credentials at a bounded rate, for callers at whose address many tokens were not valid.

None of them is refused unread: a valid token among them goes through, a little later. And what they cost the
store is bounded, however many there are.
"""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TypeAlias

from kuueri_grpc.ports import Credential

_Answer: TypeAlias = "asyncio.Future[Credential | None]"

#: Credentials that a round reads, and the time before each: 4,000 a second, which is more than a process can
#: refuse in that time, so that a round leaves few for the next one.
_ROUND, _ROUND_S = 200, 0.05


class DelayedLookups:
    """Reads credentials in rounds, first come, first served; the same token once in a round.

    Args:
        read: reads the credential of a key id and a token's digest, see `Authenticator`.
    """

    def __init__(self, read: Callable[[str, bytes], Awaitable[Credential | None]]) -> None:
        self._read = read
        self._waiting: dict[bytes, tuple[str, _Answer]] = {}
        self._rounds: asyncio.Task[None] | None = None

    async def credential(self, key_id: str, digest: bytes) -> Credential | None:
        """Return the credential, None if there is none. Raises `StoreUnavailable`."""
        if digest not in self._waiting:
            answer: _Answer = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_noted)
            self._waiting[digest] = (key_id, answer)
            if self._rounds is None:
                self._rounds = asyncio.create_task(self._run())
        return await asyncio.shield(self._waiting[digest][1])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(_ROUND_S)
                digests = list(islice(self._waiting, _ROUND))
                await asyncio.gather(
                    *(self._answer(digest, *self._waiting.pop(digest)) for digest in digests)
                )
        finally:
            self._rounds = None

    async def _answer(self, digest: bytes, key_id: str, answer: _Answer) -> None:
        try:
            credential = await self._read(key_id, digest)
        except Exception as error:  # noqa: BLE001  the caller's
            answer.set_exception(error)
        else:
            answer.set_result(credential)


def _noted(answer: _Answer) -> None:
    # Its caller may be gone: an error that none of them reads is not reported as lost.
    if not answer.cancelled():
        answer.exception()
