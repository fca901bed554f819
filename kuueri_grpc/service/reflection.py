"""Server reflection, under both of its names.

grpcio-reflection serves `grpc.reflection.v1alpha`. `grpc.reflection.v1` is the same protocol, message for
message, under a new package: the servicer is registered under that name too, with a descriptor of its own
so that the service can be described like any other.
"""

from collections.abc import Sequence

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1ALPHA = reflection.SERVICE_NAME
V1 = V1ALPHA.replace("v1alpha", "v1")
_METHOD = "ServerReflectionInfo"


def add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Serve descriptors of `services` (full names), and of reflection itself."""
    _describe_v1()
    names = [*services, V1, V1ALPHA]
    reflection.enable_server_reflection(names, server)
    method = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_registered_method_handlers(V1, {_METHOD: method})


def _describe_v1() -> None:
    pool = descriptor_pool.Default()
    alpha = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    name = alpha.name.replace("v1alpha", "v1")
    try:
        pool.FindFileByName(name)
    except KeyError:
        # Names have a length before them on the wire: renamed as fields, not as bytes.
        alpha.name = name
        alpha.package = alpha.package.replace("v1alpha", "v1")
        typed = [field for message in alpha.message_type for field in message.field if field.type_name]
        for field in typed:
            field.type_name = field.type_name.replace("v1alpha", "v1")
        for method in (method for service in alpha.service for method in service.method):
            method.input_type = method.input_type.replace("v1alpha", "v1")
            method.output_type = method.output_type.replace("v1alpha", "v1")
        pool.AddSerializedFile(alpha.SerializeToString())
