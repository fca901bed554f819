"""The `kuueri` command: the server, a client for it, a target to test against, and a demonstration.

Each group of commands is one module, imported when one of its commands is called (`root`), so that these
modules may import what they need at their top while `kuueri --help` stays quick.
"""

from kuueri_grpc.cli.entry import main

__all__ = ["main"]
