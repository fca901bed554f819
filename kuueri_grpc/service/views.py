"""How much of a task an answer has."""

from typing import TypeAlias

from kuueri_grpc.domain.access import Scope
from kuueri_grpc.domain.errors import check_scope
from kuueri_grpc.pb import task_pb2
from kuueri_grpc.service.violations import Violations

View: TypeAlias = task_pb2.TaskView.ValueType

MINIMAL, BASIC, FULL = task_pb2.TASK_VIEW_MINIMAL, task_pb2.TASK_VIEW_BASIC, task_pb2.TASK_VIEW_FULL


def read_view(number: View, default: View, violations: Violations) -> View:
    """Return the view that a request asks for, `default` where it asks for none."""
    if number in (MINIMAL, BASIC, FULL):
        return number
    if number != task_pb2.TASK_VIEW_UNSPECIFIED:
        violations.add("view", f"is {number}, which is no TaskView; expected one of MINIMAL, BASIC, FULL")
    return default


def check_view(view: View, held: Scope) -> View:
    """Return a view that a token of scope `held` may have.

    Raises:
        FullScopeNeeded: it may not: FULL has what a target knows its caller by.
    """
    if view == FULL:
        check_scope(Scope.FULL, held)
    return view
