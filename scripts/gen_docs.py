"""Generate the reference pages from what they describe: docs/configuration.md and docs/api.md.

python -m scripts.gen_docs            write the pages
python -m scripts.gen_docs --check    fail when a committed page differs from what the sources give
"""

import argparse
import sys
from pathlib import Path

from scripts import doc_api, doc_configuration

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    ROOT / "docs" / "configuration.md": doc_configuration.page,
    ROOT / "docs" / "api.md": doc_api.page,
}


def main() -> int:
    """Run from the command line; returns the exit status: 0, or 1 for a page that is out of date."""
    parser = argparse.ArgumentParser(description="Generate docs/configuration.md and docs/api.md.")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    check = parser.parse_args().check
    stale = [(path, text) for path, page in PAGES.items() if (text := page()) != _committed(path)]
    if check:
        for path, _ in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for path, text in stale:
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: written")
    return 0


def _committed(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
