"""Row 9: what the target can tell an attempt by, and whom it came from."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from tests.acceptance.caller import Project, ms, of_type, post, repeats, retries
from tests.acceptance.targets import OK, Exchange, Target, status

ERROR = status(500)
OURS = "x-kuueri-tasks-"


def ours(exchange: Exchange) -> dict[str, str]:
    """Return the X-Kuueri-Tasks headers by the rest of their names, without the one with a time."""
    named = {n.removeprefix(OURS): v for n, v in exchange.headers.items() if n.startswith(OURS)}
    del named["schedule-time"]
    return named


async def test_row_09_first_attempts_retries_and_repetitions_are_told_apart(
    project: Project, target: Target
) -> None:
    task = await project.subscribe(
        post(
            target.script("/hook", ERROR, ERROR, OK, ERROR, OK, OK),
            retry_policy=retries(2),
            repeat_policy=repeats(2),
        )
    )
    task, _ = await project.ended(task.task_id)

    queue = {"queue": task.task_id}
    assert [ours(exchange) for exchange in target.at("/hook")] == [
        {"attempt": "1"},
        {"attempt": "2", **queue, "retry-count": "1", "currently-retry": "true"},
        {"attempt": "3", **queue, "retry-count": "2", "currently-retry": "false"},
        {"attempt": "4", **queue, "repeat-count": "1", "currently-repeat": "true"},
        {
            "attempt": "5",
            **queue,
            "repeat-count": "1",
            "currently-repeat": "true",
            "retry-count": "1",
            "currently-retry": "true",
        },
        {"attempt": "6", **queue, "repeat-count": "2", "currently-repeat": "false"},
    ]


async def test_row_09_the_schedule_time_is_when_the_attempt_was_due(project: Project, target: Target) -> None:
    task = await project.subscribe(post(target.script("/hook", ERROR, OK), retry_policy=retries(1, 30)))
    _, events = await project.ended(task.task_id)

    due_times = [events[0].next_time, of_type(events, "RETRY_SCHEDULED")[0].next_time]
    for exchange, due in zip(target.at("/hook"), due_times, strict=True):
        text = exchange.headers["x-kuueri-tasks-schedule-time"]
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        assert round(moment.timestamp() * 1_000) == ms(due)


def verify(secret: str, exchange: Exchange) -> None:
    """Raise `WebhookVerificationError` unless the request is signed with the secret."""
    # Once it has verified a body, the library reads it as JSON; a task's body may be anything.
    with suppress(json.JSONDecodeError):
        Webhook(secret).verify(exchange.body, exchange.headers)


@pytest.mark.parametrize("body", [b"", b'{"a": 1}', "Grüße".encode()], ids=["empty", "json", "unicode"])
async def test_row_09_the_signature_is_verified_by_the_library_of_the_standard(
    project: Project, target: Target, body: bytes
) -> None:
    task = post(target.url("/hook"))
    task.http_target.headers["content-type"] = "text/plain"
    task.http_target.body = body
    await project.subscribe(task)
    (exchange,) = await target.received("/hook")

    verify(project.signing_secret, exchange)
    assert abs(int(exchange.headers["webhook-timestamp"]) * 1_000 - exchange.received_ms) < 60_000
    exchange.body += b"."
    with pytest.raises(WebhookVerificationError):
        verify(project.signing_secret, exchange)
    exchange.body = body
    with pytest.raises(WebhookVerificationError):
        verify("whsec_" + base64.b64encode(b"another secret").decode(), exchange)


async def test_row_09_the_webhook_id_is_that_of_the_run(project: Project, target: Target) -> None:
    task = await project.subscribe(
        post(target.script("/hook", ERROR, OK, ERROR, OK), retry_policy=retries(1), repeat_policy=repeats(1))
    )
    await project.ended(task.task_id)

    first, second = target.at("/hook")[:2], target.at("/hook")[2:]
    ids = [{exchange.headers["webhook-id"] for exchange in run} for run in (first, second)]
    assert [len(of_run) for of_run in ids] == [1, 1]
    assert ids[0] != ids[1]
    assert all(task.task_id in webhook_id for of_run in ids for webhook_id in of_run)
    for exchange in target.at("/hook"):
        verify(project.signing_secret, exchange)


async def test_row_09_a_task_with_the_id_of_a_purged_one_has_another_webhook_id(
    project: Project, target: Target
) -> None:
    for _ in range(2):
        await project.subscribe(post(target.url("/hook"), task_id="again"))
        await project.ended("again")
        await project.purge("again")

    first, second = target.at("/hook")
    assert first.headers["webhook-id"] != second.headers["webhook-id"]


async def test_row_09_after_a_rotation_both_secrets_verify(project: Project, target: Target) -> None:
    secret = await project.rotate_signing_secret()
    assert secret != project.signing_secret
    await project.subscribe(post(target.url("/hook")))
    (exchange,) = await target.received("/hook")

    assert len(exchange.headers["webhook-signature"].split(" ")) == 2
    verify(secret, exchange)
    verify(project.signing_secret, exchange)
