"""No object shows in its `repr`, and so in a log line or a traceback, what is secret in it."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import kuueri_grpc
from kuueri_grpc.cli.credentials import ProjectCredentials
from kuueri_grpc.config import Settings
from kuueri_grpc.domain.task import HttpTarget, TaskSpec
from tests.keys import KEYRING

#: Fields of these names hold what a task sends, or a credential.
SECRET = frozenset(
    {
        "authorization",
        "body",
        "headers",
        "material",
        "password",
        "query",
        "query_params",
        "secret",
        "signing_keys",
        "signing_secret",
        "signing_secrets",
        "token",
        "url",
        "userinfo",
    }
)
#: Those that may be shown, with the reason.
EXEMPT = {
    ("kuueri_grpc.ports.execution.Lease", "token"): "a fencing token: it opens nothing",
    ("kuueri_grpc.ports.execution.Claim", "token"): "a fencing token",
    ("kuueri_grpc.ports.tasks.Cancelled", "token"): "a fencing token",
    ("kuueri_grpc.cli.credentials.ProjectCredentials", "token"): "its own `__repr__` leaves it out",
    ("kuueri_grpc.cli.credentials.ProjectCredentials", "signing_secret"): "as above",
    ("kuueri_grpc.cli.target.server.Received", "query"): "`kuueri target` is there to show requests",
    ("kuueri_grpc.cli.target.server.Received", "headers"): "as above",
    ("kuueri_grpc.cli.target.server.Received", "body"): "as above",
}


def dataclasses_of_the_package() -> Iterator[type]:
    for module in pkgutil.walk_packages(kuueri_grpc.__path__, "kuueri_grpc."):
        if ".pb" in module.name or module.name.endswith((".__main__", ".exec_tied")):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if (
                isinstance(value, type)
                and dataclasses.is_dataclass(value)
                and value.__module__ == module.name
            ):
                yield value


def name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


CLASSES = {name_of(cls): cls for cls in dataclasses_of_the_package()}


def shown(cls: type) -> set[str]:
    """Return the secret fields that the `repr` of a class would show."""
    return {field.name for field in dataclasses.fields(cls) if field.repr and field.name in SECRET}


@pytest.mark.parametrize("name", CLASSES)
def test_secret_fields_are_not_shown(name: str) -> None:
    exempt = {field for cls, field in EXEMPT if cls == name}
    assert shown(CLASSES[name]) == exempt


def test_every_exemption_is_needed() -> None:
    assert {cls for cls, _ in EXEMPT} <= CLASSES.keys()


def test_kept_credentials_are_shown_without_them() -> None:
    assert "hidden" not in repr(ProjectCredentials("project", "you@example.com", "hidden", "hidden"))


def test_a_task_is_shown_without_its_request() -> None:
    target = HttpTarget(
        "https://hidden/", headers={"hidden": "hidden"}, query_params={"hidden": ""}, body=b"hidden"
    )
    assert "hidden" not in f"{target!r} {TaskSpec('a', target)!r} {TaskSpec('a', target)}"


def test_settings_are_shown_without_their_secrets() -> None:
    settings = Settings.model_validate(
        {
            "admin_token": "hidden-from-all" * 3,
            "egress_proxy": "http://hidden:hidden@proxy:3128",
            "service": {"crypto": {"key": KEYRING.reveal()}},
            "database": {"redis": {"url": "redis://hidden:hidden@h", "password": "hidden"}},
        }
    )
    material = KEYRING.reveal().partition(":")[2]
    for text in (
        repr(settings),
        str(settings),
        repr(settings.service.crypto.keyring),
        repr(settings.redis_url),
    ):
        assert "hidden" not in text
        assert material not in text
