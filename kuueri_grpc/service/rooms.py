"""Bounds the bytes of messages that are parsed and handled at once, in a process and of one caller.

What is made of a message takes up to twenty times its bytes: a header of 10 bytes becomes an entry of a map,
two strings and an entry of a dict. So what was received waits as the bytes that came, until there is room.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

#: Messages that are shorter do not wait: gRPC bounds how many calls there are.
SHORT_MESSAGE = 4_096
_PROCESS_BYTES = 16_777_216
_CALLER_BYTES = 8_388_608


@dataclass(slots=True, eq=False)
class _Room:
    """Bytes that are taken up to a limit, in the order in which they were asked for.

    What is larger than the limit has it alone.
    """

    limit: int
    taken: int = 0
    waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)

    async def take(self, size: int) -> None:
        if not self.waiting and self._fits(size):
            self.taken += size
            return
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self.waiting.remove((size, turn))
                self.give(0)
            else:
                self.give(size)
            raise

    def give(self, size: int) -> None:
        self.taken -= size
        while self.waiting and self._fits(self.waiting[0][0]):
            following, turn = self.waiting[0]
            if turn.done():
                return  # cancelled: whoever waits for it takes it away, and goes on here
            self.waiting.popleft()
            self.taken += following
            turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return not self.taken or self.taken + size <= self.limit


class Rooms:
    """The room of a process, and in it that of each caller: whoever asks for much waits for itself first."""

    def __init__(self, process_bytes: int = _PROCESS_BYTES, caller_bytes: int = _CALLER_BYTES) -> None:
        self._process = _Room(process_bytes)
        self._caller_bytes = caller_bytes
        self._callers: dict[str, _Room] = {}

    async def take(self, caller: str, size: int) -> None:
        """Wait until a message may be parsed; `give` its size back when the call has no more use for it."""
        own = self._callers.get(caller)
        if own is None:
            own = self._callers[caller] = _Room(self._caller_bytes)
        await own.take(size)
        try:
            await self._process.take(size)
        except asyncio.CancelledError:
            self._give_own(caller, size)
            raise

    def give(self, caller: str, size: int) -> None:
        """End what `take` began."""
        self._process.give(size)
        self._give_own(caller, size)

    def _give_own(self, caller: str, size: int) -> None:
        own = self._callers[caller]
        own.give(size)
        if not own.taken and not own.waiting:
            del self._callers[caller]
