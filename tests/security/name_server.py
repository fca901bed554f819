"""A name server under the test's control: it answers differently each time, as a hostile one does."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import cast

from kuueri_grpc.dispatcher.resolver import AliasResolver

_TYPE_A, _TYPE_CNAME = 1, 5


class NameServer(asyncio.DatagramProtocol):
    """Answers questions for A records with these lists in turn, the last one for ever; none may be kept.

    `aliases`: the names that lead there from every name that is asked for, in order.
    """

    def __init__(self, *answers: list[str], aliases: Sequence[str] = ()) -> None:
        self._answers = list(answers)
        self._aliases = aliases
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
        owner, records = b"\xc0\x0c", []  # the name of the question
        for alias in map(_encoded, self._aliases):
            records.append(owner + struct.pack("!HHIH", _TYPE_CNAME, 1, 0, len(alias)) + alias)
            owner = alias
        records += [
            owner + struct.pack("!HHIH", _TYPE_A, 1, 0, 4) + IPv4Address(address).packed
            for address in addresses
        ]
        header = data[:2] + struct.pack("!HHHHH", 0x8180, 1, len(records), 0, 0)
        self._transport.sendto(header + question + b"".join(records), addr)


def _encoded(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


@asynccontextmanager
async def name_server(
    *answers: list[str], aliases: Sequence[str] = ()
) -> AsyncIterator[tuple[str, NameServer]]:
    """Yield the address of such a server, and the server."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: NameServer(*answers, aliases=aliases), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    try:
        yield f"127.0.0.1:{port}", server
    finally:
        transport.close()


@asynccontextmanager
async def resolving(
    *answers: list[str], aliases: Sequence[str] = ()
) -> AsyncIterator[tuple[AliasResolver, NameServer]]:
    """Yield a resolver as in production (c-ares) that asks such a server alone, and the server."""
    async with name_server(*answers, aliases=aliases) as (address, server):
        yield AliasResolver(nameservers=[address], timeout=20, tries=1, domains=[]), server
