"""Idle connections make room for new ones: each takes a file descriptor."""

import asyncio
from contextlib import AsyncExitStack

from tests.dispatcher.sending import LOOPBACK, delivery, dispatching
from tests.dispatcher.targets import answer, answering, serving

MOST = 4


async def test_idle_connections_are_closed_for_new_ones() -> None:
    async with AsyncExitStack() as stack:
        targets = [await stack.enter_async_context(serving(answering(answer()))) for _ in range(4 * MOST)]
        dispatcher = await stack.enter_async_context(dispatching(LOOPBACK, max_connections=MOST))
        for target in targets:
            assert (await dispatcher.send(delivery(target.url()))).succeeded
        async with asyncio.timeout(30):
            for early in targets[:-MOST]:
                while early.open_connections:
                    await early.changed()
        assert [target.open_connections for target in targets[-MOST:]] == [1] * MOST


async def test_connections_that_are_being_made_count() -> None:
    async with AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(serving(answering(answer()))) for _ in range(MOST)]
        new = [await stack.enter_async_context(serving(answering(answer()))) for _ in range(MOST)]
        dispatcher = await stack.enter_async_context(dispatching(LOOPBACK, max_connections=MOST))
        for target in idle:
            assert (await dispatcher.send(delivery(target.url()))).succeeded
        outcomes = await asyncio.gather(*(dispatcher.send(delivery(target.url())) for target in new))
        assert all(outcome.succeeded for outcome in outcomes)
        async with asyncio.timeout(30):
            for target in idle:
                while target.open_connections:
                    await target.changed()
