"""What a project's feed says, read from the raw stream."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.store import timelines

_ENTRY_ID = re.compile(rb"(\d+)-0")


@dataclass
class Entry:
    """The events of one change: `number` is that of the last. `events`: (task, line as on its timeline)."""

    number: int
    events: list[tuple[str, bytes]]

    @property
    def first_number(self) -> int:
        return self.number - len(self.events) + 1


def parse(items: Sequence[bytes]) -> list[Entry]:
    """Read a flat stream: `<number>-0`, `queue/task`, event, `queue/task`, event ... `<number>-0` ...

    Where `t` and a time come first, an instant stands for a task that was subscribed then, and is due at it.
    """
    entries: list[Entry] = []
    rest = iter(items)
    time = b""
    for item in rest:
        if match := _ENTRY_ID.fullmatch(item):
            entries.append(Entry(int(match[1]), []))
        elif item == b"t":
            time = next(rest)
        else:
            line = next(rest)
            if line.isdigit():
                line = timelines.subscribed(time, line)
            entries[-1].events.append((item.decode().partition("/")[2], line))
    return entries


def number_faults(entries: Sequence[Entry], events: int) -> Iterator[str]:
    """Yield what is wrong with the numbers of a feed that should end with the latest event."""
    number = entries[0].first_number
    for entry in entries:
        if entry.first_number != number:
            yield f"event {entry.first_number} follows event {number - 1}"
        number = entry.number + 1
    if number - 1 != events:
        yield f"it ends with event {number - 1} of {events}"


def lines_of(entries: Sequence[Entry], task_id: str) -> list[bytes]:
    """Return the events of one task, or of all that had that id."""
    return [line for entry in entries for name, line in entry.events if name == task_id]
