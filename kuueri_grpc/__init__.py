"""Kuueri Tasks: subscribe an HTTP task over gRPC, have it run when due, follow its timeline live."""

import sys

__version__ = "0.1.0"

# httpx loads its own command line where rich and click are installed, and does without it where they are not.
# Nobody here runs that command: without it a worker weighs 5 MB less and is there a tenth sooner.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
