"""The errors of the project, as one tree. The gRPC edge maps them to status codes in one place.

KuueriError
|- NotFound            TaskNotFound, TaskPurged, ProjectNotFound, TokenNotFound
|- Conflict            TaskExists, RequestIdReused, EmailExists
|- WrongState          TaskEnded, TaskRunning
|- QuotaExceeded       TooManyTokens, TooManyWatches, TooManySigningSecrets
|- RateLimited
|- LastFullToken
|- Unauthenticated
|- ScopeMissing        FullScopeNeeded, SubscribeScopeNeeded, ReadScopeNeeded
|- AdminTokenNotSet
|- TaskUnreadable
|- CursorInvalid
|- CursorTooOld
`- StoreUnavailable
"""

from kuueri_grpc.domain.access import Scope
from kuueri_grpc.domain.state import TaskState


class KuueriError(Exception):
    """Any error that a caller can be told about. Its text is fit to be shown to them."""


class NotFound(KuueriError):
    """There is no such thing, or it belongs to another project."""


class TaskNotFound(NotFound):
    """No task of this project has that id (or its history has expired)."""

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"no task {task_id!r} in this project; it was never subscribed, was purged, "
            "or its history has expired"
        )
        self.task_id = task_id


class TaskPurged(NotFound):
    """The request_id made a task before, whose record is gone."""

    def __init__(self, request_id: str, task_id: str) -> None:
        super().__init__(
            f"request_id {request_id!r} made task {task_id!r} before, which was purged, or its history has "
            "expired; nothing was made now: a task that is to be carried out again needs another request_id"
        )
        self.request_id = request_id
        self.task_id = task_id


class ProjectNotFound(NotFound):
    """The project does not exist (any more)."""

    def __init__(self, project_id: str) -> None:
        super().__init__(f"no project {project_id!r}; it was deleted, or never registered")
        self.project_id = project_id


class TokenNotFound(NotFound):
    """The project has no valid token of that key id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"no token {key_id!r} in this project; it was revoked, or has run out")
        self.key_id = key_id


class Conflict(KuueriError):
    """What should be made exists already."""


class TaskExists(Conflict):
    """The caller's task_id is taken."""

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"task_id {task_id!r} is taken in this project until its history expires; "
            "choose another one, leave it empty to get one, or Purge the ended task"
        )
        self.task_id = task_id


class RequestIdReused(Conflict):
    """The request_id was used before, for a different task."""

    def __init__(self, request_id: str, task_id: str) -> None:
        super().__init__(
            f"request_id {request_id!r} was used before with a different task (it made {task_id!r}); "
            "a repeated call must carry the same task"
        )
        self.request_id = request_id
        self.task_id = task_id


class EmailExists(Conflict):
    """The e-mail address has a project already."""

    def __init__(self, email: str) -> None:
        super().__init__(
            f"a project is registered for {email!r} already; use its token, or another address. If the token "
            "is lost, the operator makes another one with `kuueri admin token create`"
        )
        self.email = email


class WrongState(KuueriError):
    """The task is not in a state that allows this."""

    def __init__(self, task_id: str, state: TaskState, message: str) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.state = state


class TaskEnded(WrongState):
    """The task has ended: nothing more can happen to it."""

    def __init__(self, task_id: str, state: TaskState, action: str) -> None:
        super().__init__(task_id, state, f"cannot {action} task {task_id!r}: it has ended as {state}")


class TaskRunning(WrongState):
    """The task is live where it may not be."""

    def __init__(self, task_id: str, state: TaskState, action: str) -> None:
        hint = "Cancel or Pause it first" if action == "purge" else "an attempt is in flight"
        super().__init__(task_id, state, f"cannot {action} task {task_id!r} while it is {state}; {hint}")


class QuotaExceeded(KuueriError):
    """The project has as many live tasks as it may."""

    def __init__(self, project_id: str, limit: int) -> None:
        super().__init__(
            f"project {project_id!r} has reached its limit of {limit:,} tasks in queue; try again when some "
            "have ended. The operator sets the limit: SERVICE.QUEUE.LIMIT, or `kuueri project limit` for one "
            "project"
        )
        self.project_id = project_id
        self.limit = limit


class TooManyTokens(QuotaExceeded):
    """The project has as many tokens as it may."""

    def __init__(self, project_id: str, limit: int) -> None:
        KuueriError.__init__(
            self, f"project {project_id!r} has {limit} tokens, the most it may; RevokeToken one of them first"
        )
        self.project_id = project_id
        self.limit = limit


class TooManyWatches(QuotaExceeded):
    """The project has as many watches open here as it may."""

    def __init__(self, project_id: str, limit: int) -> None:
        KuueriError.__init__(
            self,
            f"project {project_id!r} has {limit} watches open on this server, the most it may; "
            "watch a queue or all tasks instead of single ones, or end some",
        )
        self.project_id = project_id
        self.limit = limit


class TooManySigningSecrets(QuotaExceeded):
    """Requests of the project are signed with as many secrets as they may be."""

    def __init__(self, project_id: str, limit: int) -> None:
        KuueriError.__init__(
            self,
            f"project {project_id!r} has {limit} signing secrets that have not run out, the most it may; "
            "rotate again when one has, or with a grace time of 0, which drops them all",
        )
        self.project_id = project_id
        self.limit = limit


class LastFullToken(KuueriError):
    """The token cannot be revoked: nobody could manage the project without it for long."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"token {key_id!r} is the last full one of its project that does not run out; "
            "RotateToken puts another one in its place, DeleteProject ends them all"
        )
        self.key_id = key_id


class RateLimited(KuueriError):
    """Too many calls. `retry_ms`: when one will be let in again; `subject`: whose calls they are."""

    def __init__(self, subject: str, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.subject = subject
        # Never too early.
        self.retry_ms = int(wait_s * 1_000) + 1

    @classmethod
    def of_project(cls, project_id: str, limit: int, window_s: float, wait_s: float) -> "RateLimited":
        """Return the error of a project that has made all the calls that it may."""
        text = (
            f"project {project_id!r} has made its {limit} calls in {window_s:g} s; try again a little later"
        )
        return cls(f"project:{project_id}", text, wait_s)

    @classmethod
    def of_batch(
        cls, project_id: str, count: int, limit: int, window_s: float, wait_s: float
    ) -> "RateLimited":
        """Return the error of a batch that counts as more calls than its project may make now."""
        text = (
            f"a batch of {count} tasks counts as so many calls, and project {project_id!r} may make {limit} "
            f"in {window_s:g} s; try again a little later"
        )
        if count > limit:
            text += ", or in smaller batches: a larger one is let in after a window without other calls"
        return cls(f"project:{project_id}", text, wait_s)

    @classmethod
    def of_peer(cls, peer: str, did: str, wait_s: float) -> "RateLimited":
        """Return the error of an address that has done something too often."""
        return cls(f"peer:{peer}", f"the address {peer} {did}; try again a little later", wait_s)


class Unauthenticated(KuueriError):
    """No credentials, or none that count."""


class ScopeMissing(KuueriError):
    """The token is valid, and may not do this."""

    def __init__(self, needed: Scope, held: Scope) -> None:
        other = "" if needed is Scope.FULL else " or FULL"
        super().__init__(
            f"the token has the scope {held}, and this call needs {needed}{other}; "
            "CreateToken makes one, called with a full token"
        )
        self.scope_needed = needed
        self.scope = held


class FullScopeNeeded(ScopeMissing):
    """The call needs a full token."""


class SubscribeScopeNeeded(ScopeMissing):
    """The call needs a token that may subscribe."""


class ReadScopeNeeded(ScopeMissing):
    """The call needs a token that may read."""


_SCOPE_ERRORS = {
    Scope.FULL: FullScopeNeeded,
    Scope.SUBSCRIBE: SubscribeScopeNeeded,
    Scope.READ: ReadScopeNeeded,
}


def check_scope(needed: Scope, held: Scope) -> None:
    """Raise the `ScopeMissing` that names `needed`, unless a token of scope `held` may do it."""
    if not held.allows(needed):
        raise _SCOPE_ERRORS[needed](needed, held)


class AdminTokenNotSet(KuueriError):
    """The call is the operator's, and there is nothing to know the operator by."""

    def __init__(self) -> None:
        super().__init__(
            "this call takes the admin token of the server, which has none; whoever runs it sets "
            "TASKS_ADMIN_TOKEN (ADMIN_TOKEN in the configuration) and starts it again"
        )


class TaskUnreadable(KuueriError):
    """The record of a task is there, and cannot be read."""

    def __init__(self, task_id: str, fault: str) -> None:
        super().__init__(f"the record of task {task_id!r} cannot be read: {fault}")
        self.task_id = task_id


class CursorInvalid(KuueriError):
    """A page or resume token that this service did not give for this call."""


class CursorTooOld(KuueriError):
    """A resume token whose position is no longer kept, or beyond all that there is."""


class StoreUnavailable(KuueriError):
    """The store does not answer, or answers that it cannot serve now."""


class Draining(KuueriError):
    """This server is shutting down; another one, or the same after its restart, can go on."""

    def __init__(self) -> None:
        super().__init__("this server is shutting down; connect again and resume with the last token")


class ConnectionAged(KuueriError):
    """A watch has lasted as long as the server lets one last; its client can go on from its last token."""

    def __init__(self) -> None:
        super().__init__(
            "this watch has lasted as long as one connection may; watch again with the last resume_token"
        )


class WatcherTooSlow(KuueriError):
    """A watch fell too far behind what happens; its client can go on from its last resume token."""

    def __init__(self) -> None:
        super().__init__("the watch does not keep up with the events; watch again with the last resume_token")
