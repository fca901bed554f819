"""Send attempts from a process that has few descriptors, and print what they come to as JSON.

`python -m tests.dispatcher.starved URL COUNT PROXY_PORT`: COUNT attempts at once with room for a dozen
connections; a PROXY_PORT other than 0 is that of an egress proxy. After half a second without any descriptor
they are let go.
"""

import asyncio
import collections
import json
import resource
import socket
import sys

from kuueri_grpc.dispatcher import EgressProxy
from tests.dispatcher.sending import LOOPBACK, delivery, dispatching

ROOM = 12
LACK_S = 0.5


async def main(url: str, count: int, proxy_port: int) -> None:
    """Fill the process up, start all attempts, and give the descriptors back."""
    proxy = EgressProxy("127.0.0.1", proxy_port) if proxy_port else None
    async with dispatching(LOOPBACK, proxy=proxy) as dispatcher:
        await dispatcher.send(delivery("http://127.0.0.1:9/"))  # what is made at first use is made
        held = _take_all_but(ROOM)
        last = _take_all()
        asyncio.get_running_loop().call_later(LACK_S, _close, last)
        outcomes = await asyncio.gather(*(dispatcher.send(delivery(url)) for _ in range(count)))
        _close(held)
    tally = collections.Counter(f"{outcome.reason or 'SUCCEEDED'} {outcome.detail}" for outcome in outcomes)
    sys.stdout.write(json.dumps([tally, round(max(outcome.latency_ms for outcome in outcomes))]))


def _take_all_but(room: int) -> list[socket.socket]:
    taken = _take_all()
    _close(taken[-room:])
    return taken[:-room]


def _take_all() -> list[socket.socket]:
    taken = []
    while True:
        try:
            taken.append(socket.socket())
        except OSError:
            return taken


def _close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
