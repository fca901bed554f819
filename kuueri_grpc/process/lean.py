"""What a worker does without. To be imported before all else.

httpx loads its own command line where rich and click are installed, and does without it where they are not.
No worker runs that command: without it each weighs 5 MB less and is there a tenth sooner. Not for who merely
imports this package, as its clients do: what they have of httpx is theirs.

Nor does it need the garbage collector for as long as it imports; it switches that on itself.
"""

import sys
from types import ModuleType
from typing import cast

from kuueri_grpc.process.collector import rest_collector

rest_collector()
cast("dict[str, ModuleType | None]", sys.modules).setdefault("httpx._main", None)
