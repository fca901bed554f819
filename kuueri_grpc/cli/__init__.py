"""The `kuueri` command: the server, a client for it, a target to test against, and a demonstration.

Each group of commands is one module, imported when one of its commands is called (`root`), so that these
modules may import what they need at their top while `kuueri --help` stays quick.
"""

import os
import sys
from typing import NoReturn

_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    # Of its C core, which writes to standard error on its own: a handshake that fails is no news there.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        # Imported here, so that Ctrl-C during the import is as quiet as after it.
        from kuueri_grpc.cli.entry import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)
