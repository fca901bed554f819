"""A target verifies who sent a request by what the README tells it, as it is written there."""

import base64
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from kuueri_grpc.pb.project_service_pb2 import RotateSigningSecretRequest
from tests.acceptance.caller import Project, duration, post, retries
from tests.acceptance.targets import OK, Target, passed, status

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
OTHER = "whsec_" + base64.b64encode(b"x" * 32).decode()

Verify = Callable[[str, dict[str, str], bytes], None]


@pytest.fixture(scope="module")
def verify() -> Verify:
    """The function in the README's section, as written."""
    section = README.partition("### Verify the signature\n")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    namespace: dict[str, Verify] = {}
    exec(code[1], namespace)  # noqa: S102  ours, and what the test is about
    return namespace["verify"]


async def test_the_readme_verifies_what_a_target_receives(
    project: Project, target: Target, verify: Verify
) -> None:
    task = post(target.script("/hook", status(500), OK), retry_policy=retries(1))
    task.http_target.body = b'{"order": 42}'
    await project.subscribe(task)
    for exchange in await target.received("/hook", 2):
        verify(project.signing_secret, exchange.headers, exchange.body)
        Webhook(project.signing_secret).verify(exchange.body, exchange.headers)
        with pytest.raises(ValueError, match="another secret"):
            verify(OTHER, exchange.headers, exchange.body)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"body": b'{"order": 43}'}, "changed"),
        ({"webhook-id": "task_1_0"}, "changed"),
        ({"webhook-timestamp": "later"}, "not signed"),
        ({"webhook-timestamp": "1767225600"}, "five minutes"),
        ({"webhook-timestamp": ""}, "not signed"),
        ({"webhook-signature": ""}, "changed"),
        ({"webhook-signature": "v1,größe v2,x"}, "changed"),
    ],
)
async def test_the_readme_refuses_what_was_changed(
    project: Project, target: Target, verify: Verify, changes: dict[str, str | bytes], fault: str
) -> None:
    task = post(target.url("/hook"))
    task.http_target.body = b'{"order": 42}'
    await project.subscribe(task)
    (exchange,) = await target.received("/hook")
    body = changes.pop("body", exchange.body)
    headers = {**exchange.headers, **changes}

    with pytest.raises(ValueError, match=fault):
        verify(project.signing_secret, headers, body)  # type: ignore[arg-type]


async def test_after_a_rotation_both_secrets_verify_until_the_old_one_expires(
    project: Project, target: Target, verify: Verify
) -> None:
    secret = await project.rotate_signing_secret()
    await project.subscribe(post(target.url("/both")))
    (both,) = await target.received("/both")
    for known in (secret, project.signing_secret):
        verify(known, both.headers, both.body)

    request = RotateSigningSecretRequest(grace=duration(1))
    rotated = await project.projects.RotateSigningSecret(request, metadata=project.metadata)
    await passed(rotated.old_signing_secret_expire_time.ToMilliseconds())
    await project.subscribe(post(target.url("/one")))
    (one,) = await target.received("/one")

    verify(rotated.signing_secret, one.headers, one.body)
    assert len(one.headers["webhook-signature"].split()) == 1
    for expired in (secret, project.signing_secret):
        with pytest.raises(ValueError, match="another secret"):
            verify(expired, one.headers, one.body)
