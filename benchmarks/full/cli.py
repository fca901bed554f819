"""`python -m benchmarks full`."""

import argparse
import asyncio
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.full import document
from benchmarks.full.results import Results
from benchmarks.full.run import Plan, run
from benchmarks.harness.interrupt import interruptible
from benchmarks.harness.target import default_target
from benchmarks.model import BenchmarkFailed, Options

_ROOT = Path(__file__).resolve().parents[2]
_HARNESS = _ROOT.parent / "shared" / "peers"
_PARTS = ("peers", "scenarios", "curves", "costs")
_DOCUMENT = _ROOT / "docs" / "performance.md"
_PICTURES = _ROOT / "docs" / "performance"


def main(arguments: Sequence[str]) -> None:
    """Measure everything, and write what came of it."""
    parsed = _parser().parse_args(arguments)
    folder = parsed.results.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "results.json"
    if importlib.util.find_spec("matplotlib") is None:
        # Said now, not when all is measured.
        sys.exit("error: charts need matplotlib, of the dependency group bench; `make bench` installs it")
    # Parts that are not measured now are as they were.
    fresh = not (kept.exists() and (parsed.only or parsed.draw or parsed.resume))
    results = Results(machine={}) if fresh else Results.read(kept)
    try:
        if not parsed.draw:
            uvloop.run(interruptible(run(_plan(parsed, folder), results)))
        _write(results, folder, renew=parsed.docs)
    except BenchmarkFailed as error:
        sys.exit(f"error: {error}")
    except (asyncio.CancelledError, KeyboardInterrupt):
        sys.exit(f"stopped; what was measured is in {kept}: --draw writes it, --continue measures the rest")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks full",
        description="Measure everything: beside others, curves, scenarios, costs.",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=_ROOT / "benchmarks" / "results",
        metavar="DIR",
        help="where it is written",
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each figure; 3 by default")
    parser.add_argument(
        "--peers",
        type=Path,
        default=os.environ.get("BENCH_PEERS"),
        metavar="DIR",
        help="a harness of other systems (docs/performance.md says what it is); also BENCH_PEERS; "
        "../shared/peers beside the repository if there is one",
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME",
        help="system of the harness; repeatable; bullmq",
    )
    parser.add_argument(
        "--peer-work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "peer-bench",
        metavar="DIR",
        help="where the harness keeps what it installs",
    )
    parser.add_argument("--only", action="append", default=[], choices=_PARTS, help="this part; repeatable")
    parser.add_argument(
        "--continue",
        action="store_true",
        dest="resume",
        help="keep what --results has, and measure what is missing",
    )
    parser.add_argument("--quick", action="store_true", help="one run of little: does all of it work?")
    parser.add_argument("--draw", action="store_true", help="measure nothing: write what was measured anew")
    parser.add_argument("--docs", action="store_true", help="renew docs/performance.md and its pictures")
    return parser


def _plan(parsed: argparse.Namespace, folder: Path) -> Plan:
    harness = Path(parsed.peers) if parsed.peers else _HARNESS
    is_there = (harness / "run.py").is_file()
    if parsed.peers and not is_there:
        sys.exit(f"error: {harness} has no run.py: expected a harness of other systems")
    return Plan(
        options=Options(target=default_target()),
        folder=folder,
        harness=harness if is_there else None,
        peers=parsed.peer or ["bullmq"],
        work=parsed.peer_work,
        runs=parsed.runs,
        quick=parsed.quick,
        only=frozenset(parsed.only),
        resumed=parsed.resume,
    )


def _write(results: Results, folder: Path, *, renew: bool) -> None:
    from benchmarks.full.charts import draw  # it needs matplotlib, which measuring does not

    flame = folder / "flame.svg"
    (folder / "results.md").write_text(
        document.markdown(results, ".", flame.exists()) + "\n", encoding="utf-8"
    )
    pictures = draw(results, folder)
    print("\n".join(["", *document.summary(results), "", f"written to {folder}"]))
    if renew:
        _PICTURES.mkdir(exist_ok=True)
        for path in [*pictures, *([flame] if flame.exists() else [])]:
            shutil.copy(path, _PICTURES)
        document.renew(_DOCUMENT, document.markdown(results, _PICTURES.name, flame.exists()))
        print(f"{_DOCUMENT.relative_to(_ROOT)} is renewed")
