"""A process of its own that holds an embedded store, for test_embedded: `python embedded_holder.py DIR`.

Prints the server's process id when "written" is stored. On SIGINT it stores "interrupted" and ends.
"""

import asyncio
import signal
import sys
from pathlib import Path

from redis.asyncio import Redis

from kuueri_grpc.store.embedded import EmbeddedValkey


async def main(data_dir: Path) -> None:
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    async with EmbeddedValkey(data_dir) as store, Redis.from_url(store.url) as client:
        await client.set("written", "1")
        print(store.pid, flush=True)  # noqa: T201
        await interrupted.wait()
        await client.set("interrupted", "1")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
