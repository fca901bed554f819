"""What clients have asked for and what they were told, task by task. Times are in ms since 1970."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from kuueri_grpc.pb import task_pb2

#: The calls that change a task.
CHANGES = frozenset({"cancel", "pause", "resume", "run", "purge"})


@dataclass
class Call:
    """One call about a task.

    `answered_ms`: when its answer was read; None: there was none, so it was carried out, or will be any
    time, or never. `refused`: the answer was that it cannot be done. `answer`: the task as it was answered.
    """

    action: str
    sent_ms: int
    answered_ms: int | None = None
    refused: bool = False
    answer: task_pb2.Task | None = None

    @property
    def done(self) -> bool:
        """Whether it was acknowledged."""
        return self.answered_ms is not None and not self.refused

    @property
    def unknown(self) -> bool:
        """Whether nobody can say what became of it."""
        return self.answered_ms is None


@dataclass
class Entry:
    """A task as it was subscribed, and the calls about it, in the order in which they were made.

    One client makes them, each after the answer of the one before.
    """

    task: task_pb2.Task
    acknowledged: bool = False
    calls: list[Call] = field(default_factory=list)

    def of(self, *actions: str) -> Iterator[Call]:
        """Yield the calls of some kinds."""
        return (call for call in self.calls if call.action in actions)

    def tried(self, action: str) -> bool:
        """Whether a call that may have been carried out was made."""
        return any(not call.refused for call in self.of(action))


@dataclass
class Ledger:
    """All tasks that anybody tried to subscribe."""

    entries: dict[str, Entry] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    #: Refusals that nothing explains.
    faults: list[str] = field(default_factory=list)
    acknowledged_count: int = 0

    def open(self, task: task_pb2.Task) -> Entry:
        """Begin the entry of a task."""
        entry = self.entries[task.task_id] = Entry(task)
        return entry

    def acknowledge(self, entry: Entry) -> None:
        """Note that a server has said yes to a task."""
        entry.acknowledged = True
        self.acknowledged_count += 1
