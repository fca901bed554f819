"""What operators see of the installed command is what happened."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from kuueri_grpc.pb import task_pb2
from kuueri_grpc.pb.error_reason_pb2 import ErrorReason
from kuueri_grpc.service.admission import OPEN_CALLS, OPERATOR_CALLS, SCOPES
from tests.acceptance.caller import Project, after, duration, post, retries
from tests.acceptance.targets import Target, held, listening, status
from tests.telemetry.scrape import get
from tests.telemetry.served import Administered, administered


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with listening() as target:
        yield target


async def refused(system: Administered, task: task_pb2.Task) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await system.project.subscribe(task)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_numbers_are_what_happened(tmp_path: Path, target: Target, workers: str) -> None:
    never = asyncio.Event()
    async with administered(tmp_path, "--workers", workers) as system:
        project = system.project
        url = target.script("/ok", status(204))
        ended = [
            *(result.task for result in await project.batch([post(url, queue=f"q{n}") for n in range(3)])),
            await project.subscribe(post(url, task_id="mine", queue="q0")),
            await project.subscribe(post(target.script("/bad", status(500)), retry_policy=retries(2))),
            await project.subscribe(post(target.script("/slow", held(never)), attempt_timeout=duration(50))),
        ]
        for task in ended:
            await project.ended(task.task_id)
        hanging = await project.subscribe(post(target.script("/hang", held(never))))
        await target.received("/hang")
        await project.subscribe(post(url, schedule=after(3_600_000)))
        await refused(system, post(url, task_id="mine"))
        await refused(system, post("ftp://example.com/"))
        await project.batch([post(url, task_id="mine"), post("gopher://x/"), post("gopher://y/")])

        seen = await system.numbers()
        assert seen.sum("kuueri_attempts_in_flight") == seen.sum("kuueri_attempts_leased") == 1
        assert seen.sum("kuueri_attempt_slots_free") == 1_000 * int(workers) - 1
        assert (seen.sum("kuueri_tasks_waiting"), seen.sum("kuueri_tasks_due")) == (1, 0)
        assert seen.sum("kuueri_ready") == int(workers)

        await project.cancel(hanging.task_id)
        seen = await system.numbers()
        assert seen.counted("kuueri_attempts_total", "outcome") == {
            "SUCCEEDED": 4,
            "HTTP_STATUS": 3,
            "TIMEOUT": 1,
            "ABORTED": 1,
        }
        assert seen.sum("kuueri_tasks_accepted_total") == 8
        assert seen.counted("kuueri_tasks_refused_total", "reason") == {"TASK_EXISTS": 2, "INVALID_FIELD": 3}
        assert seen.sum("kuueri_attempt_lateness_seconds_count") == 8
        assert seen.sum("kuueri_attempt_duration_seconds_count") == 8
        assert seen.sum("kuueri_attempt_duration_seconds_sum") >= 0.05
        assert seen.sum("kuueri_claim_tasks_sum") == 9
        assert seen.sum("kuueri_attempts_in_flight") == 0
        mine = {"project": project.project_id}
        assert seen.sum("kuueri_queue_attempts_total", queue="q0", result="succeeded", **mine) == 2
        assert seen.sum("kuueri_queue_attempts_total", queue="default", result="failed", **mine) == 4
        assert seen.sum("kuueri_queue_lateness_seconds_count", **mine) == 8
        calls = {"method": "TaskService/Subscribe"}
        assert seen.sum("kuueri_grpc_calls_total", code="OK", **calls) == 5
        assert seen.sum("kuueri_grpc_calls_total", code="ALREADY_EXISTS", **calls) == 1
        assert seen.sum("kuueri_grpc_calls_total", code="INVALID_ARGUMENT", **calls) == 1
        assert seen.sum("kuueri_grpc_call_seconds_count", **calls) == 7
        assert not seen.sum("kuueri_grpc_call_seconds_count", method="TaskService/Watch")
        assert seen.sum("kuueri_grpc_calls_total", method="TaskService/Watch", code="OK") == len(ended)
        for quiet in (
            "kuueri_leases_lost_total",
            "kuueri_tasks_expired_total",
            "kuueri_tasks_poisoned_total",
            "kuueri_tasks_unreadable_total",
            "kuueri_attempts_recovered_total",
            "kuueri_attempts_left_total",
            "kuueri_reports_stale_total",
            "kuueri_store_errors_total",
            "kuueri_worker_restarts_total",
            "kuueri_watches",
        ):
            assert seen.sum(quiet) == 0, quiet


async def test_series_are_there_before_anything_happens(tmp_path: Path) -> None:
    async with administered(tmp_path, "--workers", "1") as system:
        seen = await system.numbers()
        internal = [
            labels["method"]
            for labels, value in seen.samples["kuueri_grpc_calls_total"]
            if labels["code"] == "INTERNAL" and value == 0
        ]
        assert {"TaskService/Subscribe", "TaskService/Watch", "ProjectService/Register"} <= set(internal)
        assert {*SCOPES, *OPERATOR_CALLS, *OPEN_CALLS} == set(internal)
        assert seen.by("kuueri_tasks_refused_total", "reason") == {
            name.removeprefix("ERROR_REASON_"): 0 for name in ErrorReason.keys()[1:]
        }
        outcomes = seen.by("kuueri_attempts_total", "outcome")
        assert {"SUCCEEDED", "TIMEOUT", "TLS", "BROKE_DOWN"} <= outcomes.keys()
        assert set(outcomes.values()) == {0}
        for name in (
            "kuueri_calls_throttled_total",
            "kuueri_tls_reloads_total",
            "kuueri_tasks_poisoned_total",
        ):
            assert seen.has(name)
            assert seen.sum(name) == 0


async def test_workers_that_are_killed_are_counted_and_so_is_what_they_had(
    tmp_path: Path, target: Target
) -> None:
    gate = asyncio.Event()
    url = target.script("/held", held(gate))
    async with administered(tmp_path, "--workers", "2") as system:
        tasks = [await system.project.subscribe(post(url)) for _ in range(4)]
        await target.received("/held", 4)
        before = await system.numbers()
        assert before.sum("kuueri_tasks_accepted_total") == 4
        killed = system.worker_pids
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        await target.received("/held", 8)
        gate.set()
        seen = await system.numbers_when(
            lambda seen: (
                seen.sum("kuueri_attempts_total", outcome="SUCCEEDED") == 4
                and seen.sum("kuueri_workers") == 2
            )
        )
        for task in tasks:
            await system.project.ended(task.task_id)
        assert seen.sum("kuueri_worker_restarts_total") == 2
        assert seen.sum("kuueri_attempts_recovered_total", reason="LEASE_LOST") == 4
        assert seen.sum("kuueri_tasks_accepted_total") == 4
        assert (await get(system.admin, "/readyz")).status == 200
        log = system.server.log
        assert {int(pid) for pid in re.findall(r"event=worker_ended pid=(\d+)", log)} == set(killed)
        assert len(re.findall(r"event=attempt_recovered project=\S+ task=\S+ attempt=1 ", log)) == 4
        for task in tasks:
            assert f"event=attempt_recovered project={system.project.project_id} task={task.task_id}" in log


MARK = "xX5ecretXx"


@pytest.mark.parametrize("log_format", ["human", "json"])
async def test_no_secret_is_in_the_log(tmp_path: Path, target: Target, log_format: str) -> None:
    options = ("--workers", "1", "--log-level", "debug", "--log-format", log_format)
    answers = {
        "/ok": status(200, MARK.encode(), x_answer=MARK),
        "/bad": status(503, MARK.encode(), x_answer=MARK, retry_after="0"),
        "/moved": status(302, location=f"/ok?a={MARK}"),
        "/inside": status(302, location=f"http://10.0.0.1/?a={MARK}"),
        "/lost": status(302, location=f"http://{MARK}.invalid/?a={MARK}"),
    }
    async with administered(tmp_path, *options) as system:
        project = system.project
        tasks = []
        urls = [target.script(path, answer) for path, answer in answers.items()]
        unanswered = {target.url("/lost"), "http://nowhere.invalid/"}
        for url in (*urls, "http://127.0.0.1:1/closed", "http://nowhere.invalid/"):
            http_target = task_pb2.HttpTarget(
                url=f"{url}?key={MARK}",
                query_params={"token": MARK},
                headers={"Authorization": f"Bearer {MARK}", "X-Api-Key": MARK, "Cookie": f"a={MARK}"},
                body=MARK.encode(),
                follow_redirects=True,
            )
            tasks.append(
                await project.subscribe(
                    task_pb2.Task(
                        http_target=http_target,
                        retry_policy=retries(1),
                        # Those that nobody answers: there may be no name server that says no.
                        attempt_timeout=duration(2_000 if url in unanswered else 300_000),
                        labels={"a": MARK},
                    )
                )
            )
        for token in (f"kq_{MARK}_{MARK}", MARK):
            with pytest.raises(grpc.aio.AioRpcError):
                await Project(system.channel, project.project_id, token, "").get(tasks[0].task_id)
        await refused(system, post(f"http://user:{MARK}@example.com/?{MARK}"))
        await refused(
            system, task_pb2.Task(http_target=task_pb2.HttpTarget(url=urls[0], headers={"host": MARK}))
        )
        for task in tasks:
            await project.ended(task.task_id)
        assert (await get(system.admin, f"/metrics?key={MARK}")).text.count(MARK) == 0
    log = system.server.log
    for secret in (MARK, project.token, project.signing_secret, project.token.split("_")[2]):
        assert secret not in log
    for task in tasks:
        assert task.task_id in log
    # Each is tried twice, but for the two that succeed.
    assert log.count("attempt_ended") == 2 * len(tasks) - 2
    if log_format == "json":
        lines = [json.loads(line) for line in log.splitlines()]
        ended = [line for line in lines if line.get("event") == "attempt_ended"]
        assert {line["project"] for line in ended} == {project.project_id}
        assert {line["task"] for line in ended} == {task.task_id for task in tasks}
        assert {line["attempt"] for line in ended} == {1, 2}
        assert all(line["instance"] for line in ended)
