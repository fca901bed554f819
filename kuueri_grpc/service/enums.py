"""The enums of the contract beside those of the domain, matched by name.

A number that a newer client sends and this server does not know is refused, never taken for the default.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar, cast

from google.protobuf.descriptor import EnumDescriptor

from kuueri_grpc.domain.access import Scope
from kuueri_grpc.domain.state import TaskState
from kuueri_grpc.domain.task import Growth, HttpMethod
from kuueri_grpc.domain.timeline import EventType, Reason
from kuueri_grpc.pb import task_pb2, timeline_pb2, token_pb2
from kuueri_grpc.service.violations import Violations

D = TypeVar("D", bound=StrEnum)
V = TypeVar("V", bound=int)


class EnumMap(Generic[D, V]):
    """Both ways between an enum of the domain and its twin in the contract."""

    def __init__(self, domain: type[D], contract: EnumDescriptor, prefix: str) -> None:
        numbers = {value.name: value.number for value in contract.values}
        self._name = contract.name
        # A number of the contract's enum is an int at run time, and a type of its own to the checker.
        self._number: Mapping[D, V] = {member: cast("V", numbers[prefix + member.name]) for member in domain}
        self._member: Mapping[int, D] = {number: member for member, number in self._number.items()}

    def number(self, member: D) -> V:
        """Return the contract's number of a member."""
        return self._number[member]

    def read(self, number: V, default: D, field: str, violations: Violations) -> D:
        """Return the member of a number; `default` for 0 (unset), and with a violation for unknown ones."""
        if number == 0:
            return default
        member = self._member.get(number)
        if member is None:
            expected = ", ".join(self._member.values())
            violations.add(field, f"is {number}, which is no {self._name}; expected one of {expected}")
            return default
        return member


HTTP_METHODS = EnumMap[HttpMethod, task_pb2.HttpMethod.ValueType](
    HttpMethod, task_pb2.HttpMethod.DESCRIPTOR, "HTTP_METHOD_"
)
GROWTHS = EnumMap[Growth, task_pb2.Growth.ValueType](Growth, task_pb2.Growth.DESCRIPTOR, "GROWTH_")
TASK_STATES = EnumMap[TaskState, task_pb2.TaskState.ValueType](
    TaskState, task_pb2.TaskState.DESCRIPTOR, "TASK_STATE_"
)
EVENT_TYPES = EnumMap[EventType, timeline_pb2.EventType.ValueType](
    EventType, timeline_pb2.EventType.DESCRIPTOR, "EVENT_TYPE_"
)
REASONS = EnumMap[Reason, timeline_pb2.Reason.ValueType](Reason, timeline_pb2.Reason.DESCRIPTOR, "REASON_")
SCOPES = EnumMap[Scope, token_pb2.TokenScope.ValueType](
    Scope, token_pb2.TokenScope.DESCRIPTOR, "TOKEN_SCOPE_"
)
