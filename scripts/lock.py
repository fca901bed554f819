"""Write or check requirements.lock and requirements-build.lock: the exact files that the image is made of.

python -m scripts.lock            write them, for the versions in constraints.txt: asks the package index
python -m scripts.lock --check    fail when they do not fit constraints.txt or pyproject.toml; asks nobody

Each has a package a line, with the SHA-256 of the wheel for each platform of the image.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
#: The image's interpreter and platforms; of the C library, the versions that wheels are made for.
PYTHON = "3.12"
ARCHITECTURES = ("x86_64", "aarch64")
PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_26", "manylinux_2_17", "manylinux2014")

#: What markers of requirements are evaluated with.
_IMAGE = {
    "python_version": PYTHON,
    "python_full_version": f"{PYTHON}.0",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": ARCHITECTURES[0],
    "platform_python_implementation": "CPython",
}

_PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)")
_LOCKED = re.compile(r"[a-z0-9-]+==[\w.!+-]+( \\\n    --hash=sha256:[0-9a-f]{64})+")

Pins = Mapping[str, str]


def main() -> int:
    """Run from the command line; returns the exit status: 0, or 1 where a lock does not fit."""
    parser = argparse.ArgumentParser(description="Write the locks of the image.")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 on a difference")
    wanted, constraints = locks(ROOT), pins((ROOT / "constraints.txt").read_text())
    if parser.parse_args().check:
        found = [
            f"{name}: {fault}"
            for name, needed in wanted.items()
            for fault in faults((ROOT / name).read_text(), needed, constraints)
        ]
        for fault in found:
            print(f"{fault}: run `make lock`", file=sys.stderr)
        return 1 if found else 0
    for name, needed in wanted.items():
        (ROOT / name).write_text(lock(needed))
        print(f"{name}: written")
    return 0


def locks(root: Path) -> dict[str, list[str]]:
    """Return what each lock is to hold: the requirements of pyproject.toml."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    return {
        "requirements.lock": [
            *project["project"]["dependencies"],
            *project["project"]["optional-dependencies"]["gcp"],
        ],
        "requirements-build.lock": project["build-system"]["requires"],
    }


def pins(text: str) -> dict[str, str]:
    """Return version by canonical name of a file of pins."""
    return {canonicalize_name(match["name"]): match["version"] for match in _PIN.finditer(text)}


def faults(text: str, needed: Sequence[str], constraints: Pins) -> Iterator[str]:
    """Yield what is wrong with a lock."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for entry in re.split(r"\n(?=\S)", lines.strip()):
        if not _LOCKED.fullmatch(entry):
            yield f"{entry.splitlines()[0]!r} is not a version with hashes"
    locked = pins(text)
    for name, version in locked.items():
        if constraints.get(name, version) != version:
            yield f"{name} is {version}, in constraints.txt {constraints[name]}"
    for name in sorted(closure(needed) - locked.keys()):
        yield f"{name} is missing"
    for text_ in needed:
        requirement = Requirement(text_)
        found = locked.get(canonicalize_name(requirement.name))
        if found and not requirement.specifier.contains(found):
            yield f"{requirement.name} is {found}, expected {requirement.specifier}"


def closure(needed: Iterable[str]) -> set[str]:
    """Return the names of all that requirements lead to, as far as it is installed here."""
    names: set[str] = set()
    rest = [Requirement(text) for text in needed]
    while rest:
        requirement = rest.pop()
        if any(_applies(requirement, extra) for extra in ("", *requirement.extras)):
            name = canonicalize_name(requirement.name)
            if name not in names:
                names.add(name)
                rest += _requirements_of(requirement)
    return names


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**_IMAGE, "extra": extra})


def _requirements_of(requirement: Requirement) -> Iterator[Requirement]:
    try:
        texts = metadata.requires(requirement.name) or []
    except metadata.PackageNotFoundError:
        return  # it belongs to another version of Python, or to the build
    for text in texts:
        follows = Requirement(text)
        if any(_applies(follows, extra) for extra in ("", *requirement.extras)):
            follows.marker = None
            yield follows


def lock(needed: Sequence[str]) -> str:
    """Return a lock of requirements and all that they lead to, as pip resolves them for the image."""
    versions: dict[str, str] = {}
    hashes: dict[str, set[str]] = {}
    for architecture in ARCHITECTURES:
        for name, version, digest in _resolve(needed, architecture):
            if versions.setdefault(name, version) != version:
                raise SystemExit(f"{name} is {version} on {architecture}, {versions[name]} elsewhere")
            hashes.setdefault(name, set()).add(digest)
    lines = [f"# Made by `make lock`: Python {PYTHON} on Linux, {' and '.join(ARCHITECTURES)}."]
    for name in sorted(versions):
        digests = (f"    --hash=sha256:{digest}" for digest in sorted(hashes[name]))
        lines.append(" \\\n".join((f"{name}=={versions[name]}", *digests)))
    return "\n".join(lines) + "\n"


def _resolve(needed: Sequence[str], architecture: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, version and SHA-256 of each wheel."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), "--target", folder, "--constraint", "constraints.txt"]
        command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON]
        for platform in PLATFORMS:
            command += ["--platform", f"{platform}_{architecture}"]
        subprocess.run([*command, *needed], cwd=ROOT, check=True)
        items: list[Any] = json.loads(report.read_text())["install"]
    for item in items:
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        yield canonicalize_name(item["metadata"]["name"]), item["metadata"]["version"], digest


if __name__ == "__main__":
    sys.exit(main())
