"""Fail on a source file that is long enough to hold two ideas. Generated code is exempt."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("kuueri_grpc", "scripts", "benchmarks", "tests")
SUFFIXES = {".py", ".lua"}
GENERATED = ROOT / "kuueri_grpc" / "pb"
LIMIT = 350
LIMIT_OF_TESTS = 500


def main() -> int:
    """Print each file beyond its limit; 1 if there is one."""
    too_long = 0
    for path in sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*")):
        if path.suffix not in SUFFIXES or path.is_relative_to(GENERATED):
            continue
        limit = LIMIT_OF_TESTS if path.is_relative_to(ROOT / "tests") else LIMIT
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > limit:
            print(
                f"{path.relative_to(ROOT)}: {lines} lines, at most {limit}: find the two ideas",
                file=sys.stderr,
            )
            too_long += 1
    return min(too_long, 1)


if __name__ == "__main__":
    sys.exit(main())
