"""Where the server's time goes, by py-spy: https://github.com/benfred/py-spy."""

import contextlib
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.children import running
from benchmarks.model import BenchmarkFailed, Options

_RATE_HZ = 100
_WRITE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Share:
    """How often a function was seen: itself, or with what it has called. In percent of all samples."""

    function: str
    own_percent: float
    total_percent: float


@contextlib.asynccontextmanager
async def profiled(options: Options, pid: int, directory: Path) -> AsyncIterator[None]:
    """Profile a process for as long as the block lasts, into the file that the options name, if any.

    Only moments in which Python runs are sampled (a thread holds the interpreter's lock), since threads that
    wait for the kernel cannot be told from threads that work.

    The file has folded stacks ("outer;inner samples"): what flame graph tools and speedscope read; or a flame
    graph, if its name ends with .svg.
    """
    if options.profile is None:
        yield
        return
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None:
        raise BenchmarkFailed("py-spy is not installed; it comes with the development tools")
    arguments: list[str | Path] = [
        *(spy, "record", "--pid", str(pid), "--rate", str(_RATE_HZ)),
        *(
            "--format",
            "flamegraph" if options.profile.suffix == ".svg" else "raw",
            "--function",
            "--gil",
            "--output",
            options.profile.resolve(),
        ),
        *(["--native"] if options.native else []),
    ]
    async with running("py-spy", arguments, directory) as child:
        await child.line(_WRITE_TIMEOUT_S)  # it has begun
        yield
        child.interrupt()
        await child.ended(_WRITE_TIMEOUT_S)


def shares(folded: Iterable[str]) -> list[Share]:
    """Return the functions in folded stacks, those first in which most time was spent themselves."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in folded:
        stack, _, samples = line.rpartition(" ")
        functions = stack.split(";")
        own[functions[-1]] += int(samples)
        for function in set(functions):  # a recursive one is there once
            total[function] += int(samples)
    everything = own.total()
    return [
        Share(function, 100 * samples / everything, 100 * total[function] / everything)
        for function, samples in own.most_common()
    ]
