"""How large the message of each method may be, in bytes, once unpacked."""

from collections.abc import Mapping

#: A request that is not listed below: an id, a page token, a few settings.
SMALL = 65_536
#: A request of a method that needs no token: the name of a service or of a symbol.
OPEN = 4_096

#: 64 labels of 63 and 255 characters, of up to 4 bytes each.
_FILTER = 131_072
_OTHERS: Mapping[str, int] = {"TaskService/ListTasks": _FILTER, "ServerService/GetServerInfo": OPEN}
#: Those that carry tasks: as large as the largest message.
_UNBOUNDED = frozenset({"TaskService/Subscribe", "TaskService/BatchSubscribe"})


def method_limit(name: str, largest: int) -> int:
    """Return the limit of a method (`TaskService/GetTask`); `largest`: that of the largest message."""
    return largest if name in _UNBOUNDED else min(largest, _OTHERS.get(name, SMALL))
