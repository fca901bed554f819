"""Names by c-ares, with the names that they are aliases of."""

import socket
from collections.abc import Sequence

import aiodns
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import AsyncResolver

from kuueri_grpc.domain.target_policy import TargetPolicy


class AliasResolver(AsyncResolver):
    """A resolver that waits for slow name servers without a thread, and shows what a name is an alias of."""

    async def resolve_with_aliases(
        self, host: str, port: int, family: socket.AddressFamily
    ) -> tuple[list[ResolveResult], Sequence[str]]:
        """Return the addresses of a name, and the names on the way to them (CNAME), itself not included.

        Raises:
            OSError: the name does not resolve.
        """
        try:
            answer = await self._resolver.getaddrinfo(
                host, port=port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
            )
        except aiodns.error.DNSError as error:
            raise OSError(None, error.args[1] if len(error.args) > 1 else "it does not resolve") from error
        results = [
            ResolveResult(
                hostname=host,
                host=_text(node.addr),
                port=node.addr[1],
                family=node.family,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for node in answer.nodes
        ]
        if not results:
            raise OSError(None, "it has no address")
        return results, [alias.name for alias in answer.cnames]


class GuardedResolver(AbstractResolver):
    """Resolves names through another resolver and refuses those with any address that the policy refuses.

    Where the other is an `AliasResolver`, a name is refused also for what it is an alias of.
    """

    def __init__(self, policy: TargetPolicy, resolver: AbstractResolver) -> None:
        self._policy = policy
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            BlockedAddress: one of them is refused, or a name on the way to them. A name with a public and a
                private address is no better than the private one alone.
            OSError: the name does not resolve.
        """
        if isinstance(self._resolver, AliasResolver):
            results, aliases = await self._resolver.resolve_with_aliases(host, port, family)
            for alias in aliases:
                self._policy.check_alias(alias)
        else:
            results = await self._resolver.resolve(host, port, family)
        for result in results:
            self._policy.check_address(result["host"], host)
        return results

    async def close(self) -> None:
        """Close the resolver behind it."""
        await self._resolver.close()


def _text(address: tuple[bytes, int] | tuple[bytes, int, int, int]) -> str:
    """Return an address, with its scope (the fourth of IPv6) if it has one."""
    host = address[0].decode("ascii")
    return f"{host}%{address[3]}" if len(address) > 2 and address[3] else host
