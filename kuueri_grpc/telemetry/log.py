"""Log lines for people, on standard error.

They name projects, tasks and attempts, and never hold a body, a header or a credential.
"""

import logging
import sys

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure_logging(level: str) -> None:
    """Write log lines of `level` (DEBUG, INFO, WARNING, ERROR) and above."""
    logging.basicConfig(level=logging.WARNING, format=_FORMAT, stream=sys.stderr)
    logging.getLogger("kuueri_grpc").setLevel(level)
