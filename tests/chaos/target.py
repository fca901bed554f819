"""The target of every task: it answers by the path and keeps what it has to be asked about later."""

import asyncio
import hashlib
import random
from collections import defaultdict
from dataclasses import dataclass

from tests.acceptance.targets import Answer, Exchange, Target, status

#: Of all attempts, how many are answered late, and after how long (s). They are what is lost in a crash.
_SLOW = 0.5
_SHORTEST_S, _LONGEST_S = 0.5, 5.0


@dataclass
class Arrival:
    """A request that came. `status`: what it was answered, None: nothing (yet)."""

    attempt: int
    received_ms: int
    method: str
    body_digest: bytes
    headers: dict[str, str]
    status: int | None = None

    @property
    def webhook_id(self) -> str:
        return self.headers["webhook-id"]


def digest(body: bytes) -> bytes:
    """Return what a body is known by: keeping all of them would take gigabytes."""
    return hashlib.blake2b(body, digest_size=16).digest()


class ChaosTarget(Target):
    """Answers /<kind>/<task>: `ok` well, `flaky` badly at times, `failing` badly, `hanging` never."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.arrivals: defaultdict[str, list[Arrival]] = defaultdict(list)
        self._draw = random.Random(f"{seed}/target")

    def take(self, exchange: Exchange) -> None:
        _, kind, task_id = exchange.path.split("/")
        arrival = Arrival(
            exchange.attempt,
            exchange.received_ms,
            exchange.method,
            digest(exchange.body),
            {
                name: value
                for name, value in exchange.headers.items()
                if name == "webhook-id" or name.startswith("x-kuueri-")
            },
        )
        self.arrivals[task_id].append(arrival)
        self.answer(exchange, self._rule(kind, arrival))

    def _rule(self, kind: str, arrival: Arrival) -> Answer:
        draw = self._draw
        # A few are very slow, most are not: the run has to come to an end.
        wait_s = _SHORTEST_S + (_LONGEST_S - _SHORTEST_S) * draw.random() ** 3 if draw.random() < _SLOW else 0
        bad = kind == "failing" or (kind == "flaky" and draw.random() < 0.5)
        code = draw.choice([500, 503, 404]) if bad else draw.choice([200, 200, 202])

        async def answer(exchange: Exchange) -> None:
            if kind == "hanging":
                await exchange.connection.lost.wait()
                return
            await asyncio.sleep(wait_s)
            arrival.status = code
            await status(code)(exchange)

        return answer
