"""What a supervising process and a worker say to each other, over the worker's standard input and output.

The worker is told its settings in one line, secrets included: neither its arguments nor its environment
hold them. Its input then stays open for as long as the supervisor lives. It answers in one line, that it
serves or why it cannot, and says in others every second that it lives. Whatever else comes over its
output harms nobody.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from kuueri_grpc.config import Settings

#: How often a worker says that it lives.
BEAT_S = 1.0
#: Bytes of the longest line.
LINE_LIMIT = 4 * 1_048_576


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is told. `admin_socket`: where to serve its admin endpoint, for the supervisor alone."""

    settings: Settings
    admin_socket: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the start of a worker. `fault` is empty when it serves."""

    fault: str = ""


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker lives: its event loop goes round."""


def pack_order(order: Order) -> bytes:
    """Return the line that a worker reads its order from."""
    document = {"settings": order.settings.model_dump(), "admin_socket": order.admin_socket}
    return json.dumps(document, default=_plain).encode() + b"\n"


def unpack_order(line: bytes) -> Order:
    """Return the order in a line of `pack_order`."""
    document = json.loads(line)
    socket = document["admin_socket"]
    return Order(Settings(**document["settings"]), None if socket is None else Path(socket))


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def pack_answer(answer: Answer) -> str:
    """Return the line, without its end, that a worker answers with."""
    return json.dumps({"fault": answer.fault})


def pack_beat() -> bytes:
    """Return the line by which a worker says that it lives. A pipe takes it whole or not at all."""
    return b'{"beat": true}\n'


def unpack_answer(line: bytes) -> Answer | Beat | None:
    """Return what a worker said in a line of `pack_answer` or `pack_beat`; None for any other line."""
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match document:
        case {"fault": str(fault)}:
            return Answer(fault)
        case {"beat": True}:
            return Beat()
        case _:
            return None
