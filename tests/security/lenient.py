"""How the most obliging library would read a host as an address."""

import socket
import unicodedata
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import unquote


def read_leniently(host: str) -> str:
    """Return the address in it; one of this machine if there is none, for any name may lead there.

    Percent-encoding is undone, digits and dots of all alphabets are folded, and C's `inet_aton` reads the
    rest: hexadecimal, octal, one number or two.
    """
    text = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").rstrip(".\x00").strip("[]")
    try:
        return str(IPv6Address(text.partition("%")[0]))
    except AddressValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(text))
    except (OSError, ValueError):
        return "127.0.0.1"
