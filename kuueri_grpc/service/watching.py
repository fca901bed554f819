"""What a Watch tells: the messages of its stream, each with the token to resume from there."""

from typing import Protocol

from kuueri_grpc.engine.watch import Gap, Heartbeat, Snapshot, Synced, TaskEvent, WatchItem
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.ports import Clock
from kuueri_grpc.service import tokens
from kuueri_grpc.service.answers import to_task
from kuueri_grpc.service.convert import to_event, to_gap
from kuueri_grpc.service.times import to_timestamp
from kuueri_grpc.service.views import View


class Sealer(Protocol):
    """Makes the resume tokens of a watch, and has the position that it begins behind."""

    after: int | None
    mark: int

    def seal(self, item: WatchItem) -> str:
        """Return the token that resumes after an item."""
        ...


class TaskSealer:
    """Of a watch of one task.

    Raises:
        ResumeTokenInvalid, CursorTooOld: see `WatchTokens.read`; the latter too by `seal` of a snapshot of
            another task than that of the token.
    """

    __slots__ = ("_create_time_ms", "_tokens", "after", "mark")

    def __init__(self, of: tokens.WatchTokens, resume_token: str) -> None:
        position = of.read(resume_token)
        self._tokens = of
        self._create_time_ms = position.create_time_ms if position else None
        self.after = position.sequence if position else None
        self.mark = position.mark if position else 0

    def seal(self, item: WatchItem) -> str:
        """See `Sealer`."""
        if isinstance(item, Snapshot):
            created = item.task.create_time_ms
            if self._create_time_ms not in (None, created):
                raise tokens.replaced(self._tokens.task_id)
            self._create_time_ms = created
        return self._tokens.seal(self._create_time_ms or 0, item.sequence, item.mark)


class FeedSealer:
    """Of a watch of a queue, or of all tasks. Raises `ResumeTokenInvalid`, `CursorTooOld`."""

    __slots__ = ("_tokens", "after", "mark")

    def __init__(self, of: tokens.FeedTokens, resume_token: str) -> None:
        position = of.read(resume_token)
        self._tokens = of
        self.after = position.number if position else None
        self.mark = position.mark if position else 0

    def seal(self, item: WatchItem) -> str:
        """See `Sealer`."""
        return self._tokens.seal(item.sequence, item.mark)


def to_response(item: WatchItem, clock: Clock, view: View) -> pb.WatchResponse:
    """Return the message for an item, without its token; `view`: of the task in a snapshot."""
    match item:
        case Snapshot():
            return pb.WatchResponse(snapshot=to_task(item.task, view))
        case TaskEvent():
            return pb.WatchResponse(event=to_event(item.event))
        case Gap():
            return pb.WatchResponse(gap=to_gap(item.gap))
        case Synced():
            return pb.WatchResponse(synced=pb.Synced())
        case Heartbeat():
            return pb.WatchResponse(heartbeat=pb.Heartbeat(server_time=to_timestamp(clock.now_ms())))
