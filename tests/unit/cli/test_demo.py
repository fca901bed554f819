"""The parts of the demonstration that can be looked at without a server."""

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from kuueri_grpc.cli.demo.child import Child
from kuueri_grpc.cli.demo.command import acts, check
from kuueri_grpc.cli.demo.interrupts import Interrupts
from kuueri_grpc.cli.demo.stage import Stage
from kuueri_grpc.cli.errors import CliError
from kuueri_grpc.cli.request import build_request
from kuueri_grpc.cli.target.order import Order
from kuueri_grpc.cli.target.server import VALID, Received


def received(attempt: int, status: int) -> Received:
    return Received(0, "POST", "/", {}, {}, b"", status, "t", attempt, Order.NEXT, VALID)


GOOD = [received(1, 500), received(2, 200)]


def test_what_should_have_come_came() -> None:
    check(GOOD, "t", (500, 200))


@pytest.mark.parametrize(
    "wrong",
    [
        GOOD[:1],
        [*GOOD, received(3, 200)],
        [GOOD[1], GOOD[0]],
        [GOOD[0], dataclasses.replace(GOOD[1], attempt=1, order=Order.DUPLICATE)],
        [GOOD[0], dataclasses.replace(GOOD[1], signature="not signed")],
        [GOOD[0], dataclasses.replace(GOOD[1], task_id="other")],
        [GOOD[0], dataclasses.replace(GOOD[1], status=500)],
    ],
)
def test_anything_else_is_a_failure(wrong: list[Received]) -> None:
    with pytest.raises(CliError, match="the target received"):
        check(wrong, "t", (500, 200))


def test_the_acts_are_requests() -> None:
    retried, repeated = [build_request(act.options).task for act in acts("http://127.0.0.1:1")]
    assert retried.retry_policy.max_retries == 3
    assert retried.schedule.delay.ToMilliseconds() == 1_000
    assert repeated.repeat_policy.max_repeats == 1


# --- signals ----------------------------------------------------------------------------------


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    interrupts = Interrupts()
    interrupts.install()
    yield interrupts
    interrupts.uninstall()


def test_a_signal_raises(interrupts: Interrupts) -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(SystemExit) as exit_info:
        signal.raise_signal(signal.SIGTERM)
    assert exit_info.value.code == 143


def test_a_signal_waits_for_the_end_of_what_is_held(interrupts: Interrupts) -> None:
    steps = []

    def act() -> None:
        with interrupts.held():
            steps.append("before")
            signal.raise_signal(signal.SIGINT)
            steps.append("after")

    with pytest.raises(KeyboardInterrupt):
        act()
    assert steps == ["before", "after"]


def test_an_error_comes_before_a_signal_that_was_held(interrupts: Interrupts) -> None:
    def act() -> None:
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        act()


def test_nothing_comes_of_a_signal_that_is_ignored(interrupts: Interrupts) -> None:
    interrupts.ignore()
    signal.raise_signal(signal.SIGINT)


def test_afterwards_the_handlers_are_those_of_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stage():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


# --- processes --------------------------------------------------------------------------------


def test_a_stage_leaves_neither_process_nor_file() -> None:
    def fail(stage: Stage) -> NoReturn:
        with stage:
            left.append(stage.directory)
            child = stage.start("target", "--port", "0", "--json")
            left.append(child.process_id)
            assert '"ready"' in child.line()
            raise ValueError("broken")

    left: list[Any] = []
    with pytest.raises(ValueError, match="broken"):
        fail(Stage())
    directory, process_id = left
    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(process_id, 0)


def test_a_child_that_ends_shows_its_last_words(tmp_path: Path) -> None:
    child = Child("target", ["--status", "nonsense"], tmp_path, {})
    with pytest.raises(CliError, match=r"(?s)`kuueri target` ended:.*'nonsense' is not a status"):
        child.line()
    child.stop()


def test_a_child_takes_no_settings_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUUERI_SIGNING_SECRET", "nonsense")
    monkeypatch.setenv("TASKS_PORT", "nonsense")
    child = Child("target", ["--port", "0"], tmp_path, {})
    assert "ready" in child.line()
    child.stop()


def test_a_child_that_does_not_heed_sigterm_is_ended_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kuueri_grpc.cli.demo.child.STOP_TIMEOUT_S", 0.0)
    child = Child("target", ["--port", "0"], tmp_path, {})
    assert "ready" in child.line()
    os.kill(child.process_id, signal.SIGSTOP)
    child.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(child.process_id, 0)
