"""`MODULE.THROTTLER` as the operator sets it, and as a user of the command line meets it."""

from contextlib import AsyncExitStack
from pathlib import Path

import grpc

from tests.acceptance.caller import connected, register
from tests.acceptance.command import run
from tests.acceptance.served import Server
from tests.service.statuses import refusal_of

ENVIRONMENT = {"TASKS_MODULE__THROTTLER__LIMIT": "2", "TASKS_MODULE__THROTTLER__TTL": "3600"}


async def test_a_project_that_has_made_its_calls_is_told_when_to_come_back(tmp_path: Path) -> None:
    with Server(tmp_path, "--workers", "1", env=ENVIRONMENT) as server:
        address = ("--address", server.address)
        (await run("kuueri", "project", "register", "--email", "a@b.c", *address, cwd=tmp_path)).ok()
        for _ in range(2):
            (await run("kuueri", "list", *address, cwd=tmp_path)).ok()
        refused = await run("kuueri", "list", *address, cwd=tmp_path)
        assert refused.exit_code == 1
        assert "has made its 2 calls in 3600 s; try again a little later" in refused.stderr
        assert "hint: try again in" in refused.stderr


async def test_several_processes_share_what_a_project_may(tmp_path: Path) -> None:
    limit, processes, day_s = 160, 2, 86_400
    env = {"TASKS_MODULE__THROTTLER__LIMIT": str(limit), "TASKS_MODULE__THROTTLER__TTL": str(day_s)}
    with Server(tmp_path, "--workers", str(processes), env=env) as server:
        async with AsyncExitStack() as stack:
            # The kernel spreads connections over the processes.
            channels = [await stack.enter_async_context(connected(server.address)) for _ in range(16)]
            owner = await register(channels[0])
            accepted = 0
            for n in range(3 * limit):
                try:
                    await owner.on(channels[n % len(channels)]).facts()
                    accepted += 1
                except grpc.aio.AioRpcError as error:
                    refused = refusal_of(error)
                    assert (refused.code, refused.reason) == (
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                        "RATE_LIMITED",
                    )
                    delay = refused.details["RetryInfo"].retry_delay
                    assert 0 < delay.ToSeconds() <= 2 * day_s
    # Each holds to the limit by itself; that they tell each other makes it far less than twice as much.
    assert limit <= accepted < 1.5 * limit
