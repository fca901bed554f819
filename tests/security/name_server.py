"""A name server under the test's control: it answers differently each time, as a hostile one does."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import cast

from aiohttp.resolver import AsyncResolver

_TYPE_A = 1


class NameServer(asyncio.DatagramProtocol):
    """Answers questions for A records with these lists in turn, the last one for ever; none may be kept."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\0", 12) + 5  # the name ends with an empty label; type and class follow
        question, (record_type,) = data[12:end], struct.unpack("!H", data[end - 4 : end - 2])
        addresses: list[str] = []
        if record_type == _TYPE_A:
            self.asked += 1
            addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        header = data[:2] + struct.pack("!HHHHH", 0x8180, 1, len(addresses), 0, 0)
        records = [
            b"\xc0\x0c" + struct.pack("!HHIH", _TYPE_A, 1, 0, 4) + IPv4Address(address).packed
            for address in addresses
        ]
        self._transport.sendto(header + question + b"".join(records), addr)


@asynccontextmanager
async def name_server(*answers: list[str]) -> AsyncIterator[tuple[str, NameServer]]:
    """Yield the address of such a server, and the server."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: NameServer(*answers), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    try:
        yield f"127.0.0.1:{port}", server
    finally:
        transport.close()


@asynccontextmanager
async def resolving(*answers: list[str]) -> AsyncIterator[tuple[AsyncResolver, NameServer]]:
    """Yield a resolver as in production (c-ares) that asks such a server alone, and the server."""
    async with name_server(*answers) as (address, server):
        yield AsyncResolver(nameservers=[address], timeout=20, tries=1, domains=[]), server
