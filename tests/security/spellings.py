"""Ways to write an address that must not be reached. Every one names, for some library, that address."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

#: Addresses to hide: one of each kind that an attacker wants.
FORBIDDEN = tuple(
    map(
        IPv4Address,
        (
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "192.168.1.1",
            "100.100.100.200",
            "0.0.0.0",  # noqa: S104  to hide, not to bind
            "172.16.0.1",
        ),
    )
)
#: Hosts that are refused as they stand.
OTHERS = (
    *(
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::0001]",
        "[fe80::1]",
        "[fec0::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
    ),
    *("[ff02::1]", "[2001:db8::1]", "[3fff::1]", "[fd20:ce::254]", "[64:ff9b:1::a00:1]", "[100::1]"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "192.0.2.1", "192.0.0.192", "168.63.129.16", "100.64.0.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "127.255.255.254", "0.1.2.3", "169.254.170.2"),
    *("localhost", "LOCALHOST", "localhost.", "x.localhost", "localhost.localdomain", "ip6-localhost"),
    *("metadata", "metadata.google.internal", "metadata.google.internal.", "instance-data"),
    *("instance-data.ec2.internal", "metadata.tencentyun.com", "metadata.azure.internal", "metadata.goog"),
)
_FULL_WIDTH = {ord("0") + n: 0xFF10 + n for n in range(10)}
_CIRCLED = {ord("0"): 0x24EA, **{ord("1") + n: 0x2460 + n for n in range(9)}}
_MATHEMATICAL = {ord("0") + n: 0x1D7D8 + n for n in range(10)}
DIGITS = (_FULL_WIDTH, _CIRCLED, _MATHEMATICAL)
DOTS = ("\u3002", "\uff0e", "\uff61", "%2e", "%2E")
NUMBERS = ("{:d}", "0x{:x}", "0X{:X}", "0{:o}", "0x0{:x}", "000{:o}")


def parts(address: IPv4Address, count: int) -> list[int]:
    """Return the address as 1 to 4 numbers, the last of which takes all the bytes that are left."""
    octets = list(address.packed)
    return [*octets[: count - 1], int.from_bytes(octets[count - 1 :])]


def embedded(address: IPv4Address) -> Iterator[IPv6Address]:
    """Yield the IPv6 addresses that stand for it, or carry it."""
    bits = int(address)
    yield IPv6Address(0xFFFF << 32 | bits)  # IPv4-mapped
    yield IPv6Address(bits)  # IPv4-compatible
    yield IPv6Address(0xFFFF << 48 | bits)  # IPv4-translated
    yield IPv6Address(0x64FF9B << 96 | bits)  # NAT64
    yield IPv6Address(0x64FF9B0001 << 80 | bits)  # NAT64, local use
    yield IPv6Address(0x2002 << 112 | bits << 80 | 1)  # 6to4
    yield IPv6Address(0x20010000 << 96 | bits << 64 | 0xF7F7F7F7)  # Teredo, as the server
    yield IPv6Address(0x20010000 << 96 | 0x08080808 << 64 | (bits ^ 0xFFFFFFFF))  # Teredo, as the client
    yield IPv6Address(0x2A001450 << 96 | 0x5EFE << 32 | bits)  # ISATAP
    yield IPv6Address(0x2A001450 << 96 | 0x2005EFE << 32 | bits)  # ISATAP, universal


def hosts(address: IPv4Address) -> Iterator[str]:
    """Yield the address in many spellings, as the host of a URL."""
    text = str(address)
    yield text
    for count in (1, 2, 3):
        yield ".".join(map(str, parts(address, count)))
    for number in NUMBERS[1:5]:
        yield ".".join(number.format(octet) for octet in address.packed)
    for number in ("0x{:x}", "0{:o}"):
        yield number.format(int(address))
    for digits in DIGITS:
        yield text.translate(digits)
    for dot in DOTS:
        yield text.replace(".", dot)
    yield text + "."
    yield "".join(f"%{ord(character):02x}" for character in text)
    yield f"{text}%00"
    for carrier in embedded(address):
        yield f"[{carrier}]"
    yield f"[::ffff:{text}]"
    yield f"[{IPv6Address(0xFFFF << 32 | int(address)).exploded}]"
    yield f"[::ffff:{text}%25eth0]"


HOSTS = tuple(dict.fromkeys([host for address in FORBIDDEN for host in hosts(address)] + list(OTHERS)))


def urls(port: int) -> list[str]:
    """Return a URL of that port for each of the hosts, and tricks that hide where the host begins."""
    tricks = [
        f"http://example.com@127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}\\@example.com/",
        f"http://example.com#@127.0.0.1:{port}/",
        f"http://example.com\\@127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}#@example.com/",
        f"http:///127.0.0.1:{port}/",
        f"http:127.0.0.1:{port}/",
        f"http://127.0.0.1\t:{port}/",
        f"http://127.0.0.1\n:{port}/",
        f"http://127.0.0.1:{port}:80/",
        f"http://127.0.0.1:0{port}x/",
        f"gopher://127.0.0.1:{port}/",
        f"ftp://127.0.0.1:{port}/",
        f"file://127.0.0.1:{port}/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:65536/",
        "http://:80/",
        "http://",
    ]
    return [f"http://{host}:{port}/" for host in HOSTS] + tricks
