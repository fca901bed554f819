"""The default number of workers: the cores of the process, and what its control group lets it use of them."""

import os
from pathlib import Path

import pytest

from kuueri_grpc.config.cores import available_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """A system whose process is in a control group, with files below the mount point."""
    for name, text in {
        "proc/self/cgroup": cgroup,
        **{f"sys/fs/cgroup/{n}": t for n, t in files.items()},
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("50000 50000", 1),
        ("6400000 100000", 8),
        ("max 100000", 8),
        ("", 8),
        ("100000", 8),
        ("100000 0", 8),
        ("fast 100000", 8),
    ],
)
def test_a_quota_of_version_2(tmp_path: Path, quota: str, cores: int) -> None:
    """In a container of its own the group is the mount point."""
    assert available_cores(system(tmp_path, "0::/\n", {"cpu.max": f"{quota}\n"})) == cores


def test_the_groups_around_count_too(tmp_path: Path) -> None:
    files = {"a.slice/cpu.max": "300000 100000\n", "a.slice/b.service/cpu.max": "max 100000\n"}
    assert available_cores(system(tmp_path, "0::/a.slice/b.service\n", files)) == 3


def test_the_smallest_quota_counts(tmp_path: Path) -> None:
    files = {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "500000 100000\n"}
    assert available_cores(system(tmp_path, "0::/a/b\n", files)) == 3


@pytest.mark.parametrize(("quota", "cores"), [("250000", 3), ("-1", 8), ("800000", 8)])
def test_a_quota_of_version_1(tmp_path: Path, quota: str, cores: int) -> None:
    """In a container the path is the host's, and the mount point is the group."""
    files = {"cpu/cpu.cfs_quota_us": f"{quota}\n", "cpu/cpu.cfs_period_us": "100000\n"}
    cgroup = "11:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n1:name=systemd:/docker/1f\n"
    assert available_cores(system(tmp_path, cgroup, files)) == cores


def test_without_control_groups_all_cores_count(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == 8
    assert available_cores(system(tmp_path, "nonsense\n\n", {})) == 8


def test_fewer_cores_than_the_quota_pays_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert available_cores(system(tmp_path, "0::/\n", {"cpu.max": "200000 100000\n"})) == 1
