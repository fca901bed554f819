"""What the image is made of, and what its containers may do: no file of it is taken for granted."""

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from scripts import lock

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
HASH = "a" * 64
WITH_HASH = f" \\\n    --hash=sha256:{HASH}\n"
SOUND = f"# Made by a test\nfirst==1.0{WITH_HASH}second==2.0{WITH_HASH}"


def faults(text: str, *needed: str, **constraints: str) -> list[str]:
    return list(lock.faults(text, needed, constraints))


def test_the_locks_fit() -> None:
    constraints = lock.pins((ROOT / "constraints.txt").read_text())
    for name, needed in lock.locks(ROOT).items():
        assert faults((ROOT / name).read_text(), *needed, **constraints) == []


def test_a_lock_that_fits_has_no_fault() -> None:
    assert faults(SOUND, "first>=1", "second", first="1.0") == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (SOUND.replace("first==1.0", "first==1.1"), "first is 1.1, in constraints.txt 1.0"),
        (SOUND.replace(f"second==2.0{WITH_HASH}", ""), "second is missing"),
        (SOUND.replace(f"{WITH_HASH}second", "\nsecond"), "'first==1.0' is not a version"),
        (SOUND.replace(HASH, HASH[1:], 1), "is not a version with hashes"),
        (SOUND.replace("second==2.0", "second @ file:///somewhere"), "is not a version with hashes"),
        (SOUND.replace("second==2.0", "second>=2.0"), "is not a version with hashes"),
        (SOUND.replace("second==2.0", "second==3.0"), "second is 3.0, expected <3"),
    ],
)
def test_one_that_does_not_is_found(text: str, fault: str) -> None:
    assert any(fault in found for found in faults(text, "first>=1", "second<3", first="1.0"))


def test_what_a_requirement_leads_to_is_part_of_a_lock() -> None:
    found = lock.closure(["redis[hiredis]", "google-auth; python_version < '3'", "aiohttp"])

    assert {"redis", "hiredis", "aiohttp", "yarl", "multidict"} <= found
    assert "google-auth" not in found


def test_the_image_installs_what_is_locked_alone() -> None:
    installs = re.findall(r"pip install (.+?)$", DOCKERFILE, re.MULTILINE)

    assert installs == [
        "--requirement requirements-build.lock",
        "--requirement requirements.lock",
        "--no-deps --no-index dist/*.whl",
    ]
    assert "PIP_REQUIRE_HASHES=1" in DOCKERFILE.partition("pip install")[0]
    assert f"python:{lock.PYTHON}-slim" in DOCKERFILE


def test_all_that_the_image_copies_goes_into_the_build() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for name in line.split()[:-1]
    ]

    assert sorted(allowed) == sorted(copied)
    assert all((ROOT / name).exists() for name in copied)
    assert not any(fnmatch(name, "*.env") for name in copied)


def test_every_container_is_confined() -> None:
    confined, _, services = COMPOSE.partition("\nservices:\n")
    parts = re.split(r"^  (?=\w+:$)", services.partition("\nvolumes:\n")[0], flags=re.MULTILINE)[1:]

    assert [part.partition(":")[0] for part in parts] == ["server", "valkey"]
    assert all("    <<: *confined\n" in part for part in parts)
    for setting in ("read_only: true", "cap_drop: [ALL]", 'security_opt: ["no-new-privileges:true"]'):
        assert f"  {setting}\n" in confined
    assert "cap_add" not in COMPOSE
    assert "privileged: true" not in COMPOSE
