"""What a supervising process and a worker say to each other, over the worker's standard input and output.

The worker is told its settings in one line, secrets included: neither its arguments nor its environment
hold them. Its input then stays open for as long as the supervisor lives. It answers in one line, that it
serves or why it cannot.
"""

import json
from dataclasses import dataclass

from pydantic import SecretStr

from kuueri_grpc.config import Settings

#: Bytes of the longest line.
LINE_LIMIT = 4 * 1_048_576


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the start of a worker. `fault` is empty when it serves."""

    fault: str = ""


def pack_settings(settings: Settings) -> bytes:
    """Return the line that a worker reads its settings from."""
    return json.dumps(settings.model_dump(), default=_plain).encode() + b"\n"


def unpack_settings(line: bytes) -> Settings:
    """Return the settings in a line of `pack_settings`."""
    return Settings(**json.loads(line))


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def pack_answer(answer: Answer) -> str:
    """Return the line, without its end, that a worker answers with."""
    return json.dumps({"fault": answer.fault})


def unpack_answer(line: bytes) -> Answer:
    """Return the answer in a line of `pack_answer`."""
    return Answer(json.loads(line)["fault"])
