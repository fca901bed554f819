"""Watches whose clients go while a message is under way to them."""

import asyncio
import logging

import grpc
import grpc.aio
import pytest

from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.ports import Telemetry
from kuueri_grpc.service import errors, guard
from kuueri_grpc.service.outlet import Outlet
from tests.service.edge import serving
from tests.service.statuses import refusal_of
from tests.service.watching import read, watch

ALL = pb.WatchRequest(all=True)


class Endings(Telemetry):
    """Hears how watches end."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    def call_ended(self, method: str, code: str, seconds: float | None) -> None:
        if method == "TaskService/Watch":
            self.heard.put_nowait(code)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Let every message fail as one does that is under way to a client that goes; set when one has."""
    failed = asyncio.Event()

    async def write(_outlet: Outlet, _message: object) -> None:
        failed.set()
        raise grpc.aio.InternalError('Failed "execute_batch"')

    monkeypatch.setattr(Outlet, "write", write)
    return failed


async def test_a_client_that_has_gone_is_no_error(
    store_url: str, failing: asyncio.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard, "GONE_S", 60.0)
    endings = Endings()
    async with serving(store_url, telemetry=endings) as edge:
        owner = await edge.register("owner@example.com")
        call = edge.tasks.Watch(ALL, metadata=owner.metadata)

        async with asyncio.timeout(60):
            await failing.wait()
            call.cancel()
            assert await endings.heard.get() == "CANCELLED"

        assert not caplog.records
        assert not edge.engine.watches.watchers


async def test_one_that_has_not_is_told_of_the_error(
    store_url: str, failing: asyncio.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard, "GONE_S", 0.0)
    endings = Endings()
    async with serving(store_url, telemetry=endings) as edge:
        owner = await edge.register("owner@example.com")

        with caplog.at_level(logging.ERROR, errors.__name__), pytest.raises(grpc.aio.AioRpcError) as caught:
            await read(watch(edge, owner, ALL), 1)

        assert failing.is_set()
        assert refusal_of(caught.value).code == grpc.StatusCode.INTERNAL
        assert await endings.heard.get() == "INTERNAL"
        (record,) = caplog.records
        assert vars(record)["event"] == "internal_error"
