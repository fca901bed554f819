"""How a process that serves gRPC ends."""

import contextlib
import logging
import os
import sys
from typing import NoReturn


def leave(status: int) -> NoReturn:
    """End the process here and now, with what was written to its log and its standard streams.

    An interpreter that ends in the usual way cancels the calls that have just arrived. This way they are
    told that their server is gone (`GrpcServer.close`). Call it when all that matters is closed.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(status)
