"""No script holds the store for long: each is measured at the largest input that limits allow.

By the store's own clock, which has nothing of this process in it: the least of many runs, as other processes
of a busy machine only add to what a script takes, and at the pace of a machine that runs 1,000 commands of a
script in a millisecond, where this one is slower. It is measured for all at a time by
`python -m benchmarks.micro --only largest`.
"""

from importlib import resources

import pytest

from benchmarks.micro.largest import Case, bench, worst
from benchmarks.micro.largest_cases import CASES

BOUND_US = 5_000
_MOST_RUNS = 30


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.one_server("reads the slow log of one server")
async def test_a_script_is_short(store_url: str, case: Case) -> None:
    async with bench(store_url) as ready:
        assert (await worst(ready, case, BOUND_US, _MOST_RUNS)).reference_us <= BOUND_US


def test_every_script_has_a_case() -> None:
    files = (resources.files("kuueri_grpc.store") / "lua").iterdir()
    scripts = {file.name.removesuffix(".lua") for file in files if file.name.endswith(".lua")}

    assert {case.script for case in CASES} == {
        name for name in scripts if not name.startswith("lib_") and name != "prelude"
    }
