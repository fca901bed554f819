"""Enum values under the names that people read: without the prefix, and a new one as its number."""

from google.protobuf.descriptor import EnumDescriptor

from kuueri_grpc.pb.task_pb2 import Growth, HttpMethod, TaskState
from kuueri_grpc.pb.timeline_pb2 import EventType, Reason


def state_name(state: int) -> str:
    """`COMPLETED` for TASK_STATE_COMPLETED."""
    return _name(TaskState.DESCRIPTOR, state, "TASK_STATE_")


def method_name(method: int) -> str:
    """`PUT` for HTTP_METHOD_PUT; unset is POST."""
    return _name(HttpMethod.DESCRIPTOR, method or HttpMethod.HTTP_METHOD_POST, "HTTP_METHOD_")


def growth_name(growth: int) -> str:
    """`LINEAR` for GROWTH_LINEAR; unset is CONSTANT."""
    return _name(Growth.DESCRIPTOR, growth or Growth.GROWTH_CONSTANT, "GROWTH_")


def event_name(event_type: int) -> str:
    """`SUBSCRIBED` for EVENT_TYPE_SUBSCRIBED."""
    return _name(EventType.DESCRIPTOR, event_type, "EVENT_TYPE_")


def reason_name(reason: int) -> str:
    """`TIMEOUT` for REASON_TIMEOUT; unset is empty."""
    return _name(Reason.DESCRIPTOR, reason, "REASON_") if reason else ""


def _name(enum: EnumDescriptor, number: int, prefix: str) -> str:
    value = enum.values_by_number.get(number)
    return str(number) if value is None else value.name.removeprefix(prefix)
