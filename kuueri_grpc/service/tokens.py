"""Page tokens and resume tokens: where a client is, in a form that only this service reads.

A token is base64url of a msgpack array: version, kind, check, position. The check is a digest over the
position and the scope (project, filters or task), so that a token that was altered, or belongs to another
call, project or task, is refused instead of silently skipping something. It is no secret: a forged
token could only move its forger within what they may read anyway.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

import msgpack

from kuueri_grpc.domain.errors import CursorInvalid, CursorTooOld
from kuueri_grpc.domain.task import Task
from kuueri_grpc.ports import TaskFilter

_VERSION = 1
_CHECK_BYTES = 8
#: What the store counts exactly.
_MOST = 2**53
#: Longer than any token that is given out.
_MAX_LENGTH = 512

Kind = Literal["list", "projects", "timeline", "watch", "feed"]
Position = Sequence[str | int]


class PageTokenInvalid(CursorInvalid):
    """The page token was not given out for this call."""


class ResumeTokenInvalid(CursorInvalid):
    """The resume token was not given out for this call."""


class _Unreadable(Exception):
    """Not a token of this kind and scope."""


def list_token(project_id: str, where: TaskFilter, cursor: str) -> str:
    """Return the page token for the store's `cursor` in a list with this filter."""
    return _seal("list", _list_scope(project_id, where), [cursor])


def read_list_token(token: str, project_id: str, where: TaskFilter) -> str | None:
    """Return the store's cursor; None for the first page (an empty token).

    Raises:
        PageTokenInvalid: The token is not of this project and these filters.
    """
    if not token:
        return None
    match _open_page("list", token, _list_scope(project_id, where), "a ListTasks with the same filters"):
        case [str() as cursor]:
            return cursor
    raise PageTokenInvalid("page_token holds no position")


def _list_scope(project_id: str, where: TaskFilter) -> Position:
    labels = [part for pair in sorted(where.labels.items()) for part in pair]
    return [project_id, where.state or "", where.queue or "", *labels]


def projects_token(cursor: str) -> str:
    """Return the page token for the store's `cursor` in the list of projects."""
    return _seal("projects", [], [cursor])


def read_projects_token(token: str) -> str | None:
    """Return the store's cursor; None for the first page (an empty token). Raises `PageTokenInvalid`."""
    if not token:
        return None
    match _open_page("projects", token, [], "a ListProjects"):
        case [str() as cursor]:
            return cursor
    raise PageTokenInvalid("page_token holds no position")


@dataclass(frozen=True, slots=True)
class TimelinePosition:
    """A place on a task's timeline: after event `sequence` of the task that was made at `create_time_ms`.

    The time tells the task from a later one with its id, `mark` the event from another with its number
    (0: not known).
    """

    create_time_ms: int
    sequence: int
    mark: int = 0

    def is_of(self, task: Task) -> bool:
        """Whether `task` is the one that this is a position of."""
        return self.create_time_ms == task.create_time_ms


def timeline_token(project_id: str, task: Task, sequence: int) -> str:
    """Return the page token for the events after `sequence`."""
    return _seal("timeline", [project_id, task.spec.task_id], [task.create_time_ms, sequence])


def read_timeline_token(token: str, project_id: str, task_id: str) -> TimelinePosition | None:
    """Return the position; None for the first page (an empty token).

    Raises:
        PageTokenInvalid: The token is not of this project and task.
    """
    if not token:
        return None
    match _open_page("timeline", token, [project_id, task_id], "a GetTimeline of the same task"):
        case [create_time_ms, sequence] if _is_count(create_time_ms) and _is_count(sequence):
            return TimelinePosition(create_time_ms, sequence)
    raise PageTokenInvalid("page_token holds no position")


@dataclass(frozen=True, slots=True)
class WatchTokens:
    """Resume tokens of one Watch: of a task, in a store whose data is `epoch`."""

    project_id: str
    task_id: str
    epoch: str

    def seal(self, create_time_ms: int, sequence: int, mark: int) -> str:
        """Return the token that resumes after event `sequence`."""
        position: Position = [self.epoch, create_time_ms, sequence, mark]
        return _seal("watch", [self.project_id, self.task_id], position)

    def read(self, token: str) -> TimelinePosition | None:
        """Return the position; None for a Watch from the start (an empty token).

        Raises:
            ResumeTokenInvalid: The token is not of this project and task.
            CursorTooOld: It is of data that the store has lost.
        """
        if not token:
            return None
        try:
            position = _open("watch", token, [self.project_id, self.task_id])
        except _Unreadable as error:
            raise ResumeTokenInvalid(
                f"resume_token {error}; expected one from a Watch of the same task"
            ) from None
        match position:
            case [str() as epoch, create_time_ms, sequence, mark] if (
                _is_count(create_time_ms) and _is_count(sequence) and _is_count(mark)
            ):
                _check_epoch(epoch, self.epoch)
                return TimelinePosition(create_time_ms, sequence, mark)
        raise ResumeTokenInvalid("resume_token holds no position")


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """A place in a project's feed: after the event `number`; `mark` is as in `TimelinePosition`."""

    number: int
    mark: int = 0


@dataclass(frozen=True, slots=True)
class FeedTokens:
    """Resume tokens of one Watch of a queue (None: of all tasks), in a store whose data is `epoch`."""

    project_id: str
    queue: str | None
    epoch: str

    def seal(self, number: int, mark: int) -> str:
        """Return the token that resumes after the project's event `number`."""
        return _seal("feed", self._scope(), [self.epoch, number, mark])

    def read(self, token: str) -> FeedPosition | None:
        """Return the position; None for a Watch from now on (an empty token).

        Raises:
            ResumeTokenInvalid: The token is not of this project and queue.
            CursorTooOld: It is of data that the store has lost.
        """
        if not token:
            return None
        try:
            position = _open("feed", token, self._scope())
        except _Unreadable as error:
            raise ResumeTokenInvalid(
                f"resume_token {error}; expected one from a Watch of the same queue, or of all"
            ) from None
        match position:
            case [str() as epoch, number, mark] if _is_count(number) and _is_count(mark):
                _check_epoch(epoch, self.epoch)
                return FeedPosition(number, mark)
        raise ResumeTokenInvalid("resume_token holds no position")

    def _scope(self) -> Position:
        return [self.project_id] if self.queue is None else [self.project_id, self.queue]


def _is_count(number: object) -> TypeGuard[int]:
    """Whether this is a number that the service counts with: its tokens have no others."""
    return type(number) is int and 0 <= number < _MOST


def _check_epoch(of_token: str, of_store: str) -> None:
    if of_token != of_store:
        raise CursorTooOld("resume_token is from before the store lost its data; watch again without a token")


def replaced(task_id: str) -> CursorTooOld:
    """Return the error for a position on the timeline of an earlier task of that id."""
    return CursorTooOld(
        f"the token is of an earlier task {task_id!r}, which was purged; start again without a token"
    )


def _seal(kind: Kind, scope: Position, position: Position) -> str:
    checked = msgpack.packb([kind, list(scope), list(position)])
    check = hashlib.blake2b(checked, digest_size=_CHECK_BYTES).digest()
    packed = msgpack.packb([_VERSION, kind, check, list(position)])
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def _open_page(kind: Kind, token: str, scope: Position, origin: str) -> Position:
    try:
        return _open(kind, token, scope)
    except _Unreadable as error:
        raise PageTokenInvalid(f"page_token {error}; expected one from {origin}") from None


def _open(kind: Kind, token: str, scope: Position) -> Position:
    if len(token) > _MAX_LENGTH:
        raise _Unreadable("is no token")
    try:
        # Not urlsafe_b64decode, which passes over characters that are not of the alphabet.
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars="-_", validate=True)
        content = msgpack.unpackb(packed)
    except (ValueError, msgpack.UnpackException):
        raise _Unreadable("is no token") from None
    match content:
        case [int() as version, str() as its_kind, bytes(), list() as position]:
            if version != _VERSION:
                raise _Unreadable("is of another version of the service")
            if its_kind != kind:
                raise _Unreadable("is of another call")
            if token != _seal(kind, scope, position):
                raise _Unreadable("is of another project, task or filter")
            return position
    raise _Unreadable("is no token")
