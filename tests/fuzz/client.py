"""Makes the calls over a real channel, and judges every answer."""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]

from kuueri_grpc.service.admission import OPERATOR_CALLS
from kuueri_grpc.service.guard import API_PREFIX
from tests.acceptance.caller import Project, connected, register
from tests.fuzz.calls import METHODS, Call, Metadata, spoilt_token
from tests.fuzz.messages import TARGET

#: What a call may never end with: what the server did not foresee, or a call that hangs.
FORBIDDEN = frozenset(
    {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
    | {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
)
_INSIDES = re.compile(
    r"Traceback|File \"|\.py\b|\b0x[0-9a-f]{8,}|Exception\b|\bredis\b|\bLua\b", re.IGNORECASE
)
#: What an answer repeats of the request; it may be anything.
_QUOTED = re.compile(r"'[^']*'")
_PATIENCE_S = 60.0
#: Calls that leave their caller with nothing: a project of its own makes them.
_ENDS_CALLER = frozenset({"RotateToken", "DeleteProject"})
#: Such as GetProject names are left out: of those nobody calls again, whatever their limits are set to.
_GIVEN_OUT = ("page_token", "resume_token", "key_id", "task_id", "project_id")
#: A project's limit of tasks is reached after some time: then another one calls.
_CALLS_PER_PROJECT = 3_000


class Fuzzer:
    """Makes calls as a project, a new one when it is used up, and counts what they ended with."""

    def __init__(self, address: str, target_url: str, admin_token: str) -> None:
        self._address = address
        self._target_url = target_url
        self._admin_token = admin_token
        self._project: Project | None = None
        self._victim: Project | None = None
        self._given_out: dict[str, list[str]] = {name: [] for name in _GIVEN_OUT}
        self.codes: Counter[str] = Counter()
        self.by_method: defaultdict[str, Counter[str]] = defaultdict(Counter)

    @property
    def _token(self) -> str | None:
        return None if self._project is None else self._project.token

    async def make(self, batch: Sequence[Call]) -> None:
        """Make the calls at once; raise `AssertionError` for an answer that may not be."""
        async with connected(self._address) as channel:
            if self._project is None or self.codes.total() % _CALLS_PER_PROJECT < len(batch):
                self._project = await register(channel, self._admin_token)
            if self._victim is None:
                self._victim = await register(channel, self._admin_token)
            await asyncio.gather(*(self._make(channel, self._own_token(call.path), call) for call in batch))

    def _own_token(self, path: str) -> str:
        """Return the token that opens a method."""
        assert self._project is not None
        assert self._victim is not None
        if path.removeprefix(API_PREFIX) in OPERATOR_CALLS:
            return self._admin_token
        return (self._victim if METHODS[path].name in _ENDS_CALLER else self._project).token

    async def _make(self, channel: grpc.aio.Channel, own_token: str, call: Call) -> None:
        method = METHODS[call.path]
        metadata = list(call.metadata)
        token = own_token if call.token == "" else call.token
        if token is not None:
            metadata.append(("authorization", f"Bearer {token}"))
        try:
            answer = await self._answer(channel, call, tuple(metadata))
        except grpc.aio.AioRpcError as error:
            self._judge(call, error)
            self._count(call, error.code().name)
            if error.code() is grpc.StatusCode.UNAUTHENTICATED and token is not None and token == self._token:
                self._project = None  # it has revoked that itself
            return
        self._count(call, "OK")
        if isinstance(answer, bytes) and method.name != "GetProject":
            self._keep(GetMessageClass(method.output_type).FromString(answer))
        if method.name in _ENDS_CALLER:
            self._victim = None

    async def _answer(self, channel: grpc.aio.Channel, call: Call, metadata: Metadata) -> object:
        """Return the answer, of a stream its first message (None: there is none), and end the stream then."""
        payload: Any = self._payload(call)
        if not METHODS[call.path].server_streaming:
            return await channel.unary_unary(call.path)(payload, metadata=metadata, timeout=_PATIENCE_S)
        stream: Any = channel.unary_stream(call.path)(payload, metadata=metadata, timeout=_PATIENCE_S)
        try:
            answer = await stream.read()
            return None if answer is grpc.aio.EOF else answer
        finally:
            stream.cancel()

    def _payload(self, call: Call) -> bytes:
        if isinstance(call.message, bytes):
            return call.message
        message = type(call.message)()
        message.CopyFrom(call.message)
        self._put_in_place(message)
        payload = message.SerializeToString()
        return payload if call.spoil is None else call.spoil(payload)

    def _put_in_place(self, message: Message) -> None:
        for field, value in message.ListFields():
            known = self._given_out.get(field.name)
            if known and isinstance(value, str) and value.startswith("@") and value[1:].isdigit():
                number = int(value[1:])
                setattr(message, field.name, spoilt_token(known[number % len(known)], number))
            elif isinstance(value, str) and value.startswith(TARGET):
                setattr(message, field.name, self._target_url + value.removeprefix(TARGET))
            elif isinstance(value, Message):
                self._put_in_place(value)
            elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
                for item in value:
                    self._put_in_place(item)

    def _keep(self, answer: Message) -> None:
        """Keep a few of the tokens and ids that the server gave out."""
        for field, value in answer.ListFields():
            name = field.name.removeprefix("next_")
            if isinstance(value, str) and name in self._given_out:
                self._given_out[name] = [value, *self._given_out[name][:7]]
            elif isinstance(value, Message):
                self._keep(value)

    def _count(self, call: Call, code: str) -> None:
        self.codes[code] += 1
        self.by_method[call.path][code] += 1

    def _judge(self, call: Call, error: grpc.aio.AioRpcError) -> None:
        told = f"{call!r}: {error.code()} {error.details()!r}"
        assert error.code() not in FORBIDDEN, told
        assert not _INSIDES.search(_QUOTED.sub("", error.details() or "")), told
        trailers = dict(error.trailing_metadata() or ())
        packed = trailers.get("grpc-status-details-bin")
        if packed is None:
            return
        try:
            status = status_pb2.Status.FromString(packed)
        except DecodeError:
            raise AssertionError(told) from None
        assert code_pb2.Code.Name(status.code) == error.code().name, told
        info = error_details_pb2.ErrorInfo()
        assert any(detail.Unpack(info) and info.domain == "tasks.kuueri" for detail in status.details), told
        assert not _INSIDES.search(_QUOTED.sub("", str(status))), f"{told} {status}"
