"""Read by Python as it starts, where this folder is on its path: names are resolved by a server of the test.

The program runs as it is otherwise: its resolver asks the server in NAME_SERVER instead of the machine's.
"""

import os
from typing import Any

from aiohttp.resolver import AsyncResolver

_make = AsyncResolver.__init__


def _asking_the_test(self: AsyncResolver, *args: Any, **options: Any) -> None:
    name_server = {"nameservers": [os.environ["NAME_SERVER"]], "timeout": 20, "tries": 1, "domains": []}
    _make(self, *args, **{**options, **name_server})


AsyncResolver.__init__ = _asking_the_test  # type: ignore[method-assign]
