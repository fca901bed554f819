"""What the files of the image and of Compose say; neither can be built or run here."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def instructions(name: str) -> list[str]:
    """Return the arguments of an instruction in the last stage of the image."""
    stage = re.split(r"^FROM .*$", DOCKERFILE, flags=re.MULTILINE)[-1]
    return re.findall(rf"^{name} +(.*)$", stage, re.MULTILINE)


def test_the_user_is_a_number_that_kubernetes_can_check() -> None:
    assert instructions("USER") == ["10001:10001"]
    (made,) = [run for run in instructions("RUN") if "useradd" in run]
    assert "groupadd --gid 10001 kuueri" in made
    assert re.search(r"useradd .*--uid 10001 --gid 10001 kuueri", made)


def test_the_health_check_is_of_what_a_restart_mends() -> None:
    (check,) = instructions("HEALTHCHECK")
    assert "/healthz" in check
    assert "/readyz" not in check


def test_ports_are_named() -> None:
    (environment,) = instructions("ENV")
    admin = re.search(r"TASKS_ADMIN_PORT=(\d+)", environment)
    assert admin is not None
    assert instructions("EXPOSE") == [f"8202 {admin[1]}"]


def test_the_data_directory_is_a_volume() -> None:
    (environment,) = instructions("ENV")
    assert [f"TASKS_DATA_DIR={path}" in environment for path in instructions("VOLUME")] == [True]


def test_the_version_of_compose_is_stated_that_its_file_needs() -> None:
    # `required` of an env_file came with that version.
    assert "required: false" in COMPOSE
    assert "Docker Compose 2.24 or newer" in COMPOSE
