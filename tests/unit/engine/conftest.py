"""Tests of timers and streams run in the event loop of a server, whose timers are not quite those of asyncio.

Not all tests do: a child that uvloop starts beside gRPC's threads may crash before it has begun.
"""

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}
