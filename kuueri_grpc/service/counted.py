"""What calls are counted by: their methods, and the reasons for which tasks are refused."""

from collections.abc import Sequence

from kuueri_grpc.pb import project_service_pb2, server_service_pb2, task_service_pb2
from kuueri_grpc.service.errors import reason_names


def methods() -> Sequence[str]:
    """Return the methods of the API as telemetry names them: "TaskService/GetTask"."""
    return [
        f"{service.name}/{method.name}"
        for module in (task_service_pb2, project_service_pb2, server_service_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def refusals() -> Sequence[str]:
    """Return every reason of an error, as `ErrorInfo` has it."""
    return reason_names()
