"""The script of a target: which answer comes next."""

from collections import defaultdict
from dataclasses import dataclass

#: In a script, for a connection that is closed without an answer.
DROP = "drop"


@dataclass(frozen=True, slots=True)
class Script:
    """Answers in the order they are given; the last one stays. None stands for no answer at all."""

    statuses: tuple[int | None, ...]

    def __str__(self) -> str:
        return ", ".join(DROP if status is None else str(status) for status in self.statuses)


def parse_script(text: str) -> Script:
    """Read `500,500,200`, where `drop` may stand for a status.

    Raises:
        ValueError: A part is neither a status of 200 to 599 nor `drop`.
    """
    return Script(tuple(_status(part.strip()) for part in text.split(",")))


def _status(text: str) -> int | None:
    if text == DROP:
        return None
    if not (text.isascii() and text.isdigit() and 200 <= int(text) <= 599):
        raise ValueError(f"{text!r} is not a status of 200 to 599, nor {DROP!r}")
    return int(text)


class Answers:
    """Hands out the answers of a script: to all requests together, or to each task from its start."""

    def __init__(self, script: Script, *, per_task: bool) -> None:
        self._script = script
        self._per_task = per_task
        self._given: defaultdict[str, int] = defaultdict(int)

    def next(self, task: str) -> int | None:
        """Return the status of the next answer to `task`, None for no answer."""
        key = task if self._per_task else ""
        index = min(self._given[key], len(self._script.statuses) - 1)
        self._given[key] += 1
        return self._script.statuses[index]
