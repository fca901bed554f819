"""Following a task over broken connections: without a gap, without a repeat."""

import random
import time
from collections.abc import Callable, Iterator

import grpc

from kuueri_grpc.cli.client import Client
from kuueri_grpc.cli.rpc_errors import retry_delay_ms, to_cli_error
from kuueri_grpc.domain.backoff import delay_ms
from kuueri_grpc.domain.task import Backoff, Growth
from kuueri_grpc.pb.task_service_pb2 import WatchRequest, WatchResponse

#: Waits before the next try; jitter keeps many watchers from coming back in one instant.
RECONNECT = Backoff(interval_ms=250, growth=Growth.EXPONENTIAL, max_interval_ms=5_000, jitter=0.5)
#: The longest wait that a server can ask for.
LONGEST_PAUSE_MS = 30_000
#: Tries in a row without a message before it is given up: about a minute.
MAX_RECONNECTS = 20


def follow(
    client: Client,
    request: WatchRequest,
    notice: Callable[[str], None],
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[WatchResponse]:
    """Yield the messages of a Watch until the server ends it.

    Once a first message has come, UNAVAILABLE does not end the stream: it is taken up where it broke off.
    `request.resume_token` is always that of the message yielded last.

    Args:
        client: The server to watch on.
        request: What to follow.
        notice: Is told of each break, once.
        wait: Is called with the seconds to let pass before the next try.

    Raises:
        CliError: The server refused the Watch, or stayed away.
    """
    has_begun = False
    failures = 0
    while True:
        stream = client.tasks.Watch(request, metadata=client.metadata)
        try:
            for message in stream:
                has_begun, failures = True, 0
                request.resume_token = message.resume_token
                yield message
            return
        except grpc.RpcError as error:
            failures += 1
            is_break = has_begun and error.code() is grpc.StatusCode.UNAVAILABLE
            if not is_break or failures > MAX_RECONNECTS:
                connection = client.connection
                raise to_cli_error(error, connection.address, connection.token_source) from None
            asked_ms = min(retry_delay_ms(error) or 0, LONGEST_PAUSE_MS)
            pause_ms = max(asked_ms, delay_ms(RECONNECT, failures, random.random()))  # noqa: S311  no secret
        finally:
            # Also where the caller stops listening.
            stream.cancel()
        if failures == 1:
            notice("the connection broke off; trying to go on from there")
        wait(pause_ms / 1_000)
