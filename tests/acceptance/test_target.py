"""`kuueri target`, installed, by real HTTP."""

import base64
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

KUUERI = Path(sys.executable).parent / "kuueri"
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()


class Target:
    """A running target that prints JSON, and a client for it.

    What it prints is read at once: it does not answer while it cannot print.
    """

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [str(KUUERI), "target", "--port", "0", "--json", *options], stdout=subprocess.PIPE, text=True
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.url: str = self.next("ready")["url"]
        self.http = httpx.Client(base_url=self.url, trust_env=False)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self._lines.put(line)

    def next(self, kind: str) -> dict[str, Any]:
        """Return the next line that it prints, which must be of this kind."""
        document: dict[str, Any] = json.loads(self._lines.get(timeout=30))
        assert document["kind"] == kind
        return document

    def attempt(self, task: str, number: int, **options: Any) -> dict[str, Any]:
        """Send an attempt as the server does; return what the target printed of it."""
        headers = {"webhook-id": f"{task}_1767225600123_0", "X-Kuueri-Tasks-Attempt": str(number)}
        self.http.post("/", headers=headers, **options)
        return self.next("request")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, dict[str, Any]]:
        """Return its exit code and its summary."""
        self.process.send_signal(number)
        return self.end()

    def end(self) -> tuple[int, dict[str, Any]]:
        """Wait for its end; return its exit code and its summary."""
        summary = self.next("summary")
        return self.process.wait(), summary

    def close(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait()
        self._reader.join()


@pytest.fixture
def start() -> Iterator[Callable[..., Target]]:
    with ExitStack() as stack:

        def start_target(*options: str) -> Target:
            target = Target(*options)
            stack.callback(target.close)
            return target

        yield start_target


Start = Callable[..., Target]


def test_it_tells_everything_about_a_request(start: Start) -> None:
    target = start()
    before_ns = time.time_ns()
    response = target.http.put(
        "/a%20path?q=1&q=2&r=%26", headers=[("X-Many", "1"), ("X-Many", "2")], content=b"\x00\xff"
    )
    after_ns = time.time_ns()
    assert response.status_code == 200
    request = target.next("request")
    assert before_ns <= request.pop("received_at") <= after_ns
    headers = request.pop("headers")
    assert (headers["x-many"], headers["content-length"]) == ("1, 2", "2")
    assert request == {
        "kind": "request",
        "method": "PUT",
        "path": "/a path",
        "query": {"q": ["1", "2"], "r": ["&"]},
        "body": base64.b64encode(b"\x00\xff").decode(),
        "status": 200,
        "task_id": None,
        "attempt": None,
        "order": None,
        "signature": None,
    }


def test_it_takes_every_method(start: Start) -> None:
    target = start("--status", "204")
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        assert target.http.request(method, "/").status_code == 204
        assert target.next("request")["method"] == method


def test_it_takes_a_body_far_over_what_a_task_may_have(start: Start) -> None:
    target = start()
    assert target.http.post("/", content=b"x" * 5_000_000).status_code == 200
    assert len(base64.b64decode(target.next("request")["body"])) == 5_000_000


def test_answers_come_in_order_and_the_last_one_stays(start: Start) -> None:
    target = start("--status", "500,503,200")
    assert [target.http.get("/").status_code for _ in range(5)] == [500, 503, 200, 200, 200]
    assert [target.next("request")["status"] for _ in range(5)] == [500, 503, 200, 200, 200]


def test_each_task_or_path_can_have_the_answers_to_itself(start: Start) -> None:
    target = start("--status", "500,200", "--per-task")
    assert [target.attempt(task, 1)["status"] for task in ("a", "b")] == [500, 500]
    assert [target.attempt(task, 2)["status"] for task in ("a", "b")] == [200, 200]
    assert [target.http.get(path).status_code for path in ("/a", "/b", "/a")] == [500, 500, 200]


def test_it_can_close_without_an_answer(start: Start) -> None:
    target = start("--status", "drop,200")
    with pytest.raises(httpx.RemoteProtocolError):
        target.http.get("/")
    assert target.next("request")["status"] is None
    assert target.http.get("/").status_code == 200


def test_it_can_ask_to_come_back_later_and_to_go_elsewhere(start: Start) -> None:
    target = start("--status", "503,302,200", "--retry-after", "7", "--location", "/elsewhere")
    answers = [target.http.get("/") for _ in range(3)]
    assert [answer.headers.get("retry-after") for answer in answers] == ["7", "7", None]
    assert [answer.headers.get("location") for answer in answers] == [None, "/elsewhere", None]


def test_a_request_is_told_before_its_delayed_answer(start: Start) -> None:
    target = start("--delay", "1h")
    with socket.create_connection(("127.0.0.1", int(target.url.rpartition(":")[2]))) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: target\r\n\r\n")
        assert target.next("request")["method"] == "GET"
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)


def test_attempts_that_are_missing_late_or_came_before_are_found(start: Start) -> None:
    target = start()
    attempts = [("a", 1), ("b", 1), ("a", 2), ("a", 2), ("b", 4), ("b", 2), ("a", 3)]
    orders = [target.attempt(task, number)["order"] for task, number in attempts]
    assert orders == ["next", "next", "next", "duplicate", "gap", "late", "next"]
    code, summary = target.stop()
    assert code == 0
    assert summary == {
        "kind": "summary",
        "requests": 7,
        "tasks": 2,
        "duplicates": 1,
        "missing": 1,
        "late": 1,
        "badly_signed": 0,
    }


@pytest.mark.parametrize(("attempts", "expected"), [((1, 3, 2), 0), ((1, 1), 1), ((1, 3), 1)])
def test_strict_makes_it_the_exit_code(start: Start, attempts: tuple[int, ...], expected: int) -> None:
    target = start("--strict")
    for attempt in attempts:
        target.attempt("a", attempt)
    assert target.stop()[0] == expected


def sign(secret: str, body: str) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "webhook-id": "task_0",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("task_0", now, body),
    }


def test_signatures_are_verified(start: Start) -> None:
    target = start("--secret", SECRET, "--strict")
    target.http.post("/", content="body", headers=sign(SECRET, "body"))
    target.http.post("/", content="body", headers=sign(OTHER, "body"))
    target.http.post("/", content="body")
    assert [target.next("request")["signature"] for _ in range(3)] == [
        "valid",
        "signed with another secret, or changed on the way",
        "not signed",
    ]
    code, summary = target.stop()
    assert (code, summary["badly_signed"]) == (1, 2)


def test_during_a_rotation_either_secret_is_good(start: Start) -> None:
    target = start("--secret", OTHER, "--secret", SECRET)
    target.http.post("/", content="body", headers=sign(SECRET, "body"))
    target.http.post("/", content="body", headers=sign(OTHER, "body"))
    assert [target.next("request")["signature"] for _ in range(2)] == ["valid", "valid"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_sums_up_when_it_is_stopped(start: Start, number: signal.Signals) -> None:
    target = start()
    target.http.get("/")
    target.next("request")
    code, summary = target.stop(number)
    assert (code, summary["requests"]) == (0, 1)


def test_it_stops_by_itself_after_a_number_of_answers(start: Start) -> None:
    target = start("--count", "2", "--status", "500,200")
    assert [target.http.get("/").status_code for _ in range(2)] == [500, 200]
    target.next("request")
    target.next("request")
    code, summary = target.end()
    assert (code, summary["requests"]) == (0, 2)


def test_a_port_that_is_taken_is_said(start: Start) -> None:
    port = start().url.rpartition(":")[2]
    done = subprocess.run(
        [str(KUUERI), "target", "--port", port], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1 port {port}: ")


def test_for_people_it_prints_a_table() -> None:
    command = [str(KUUERI), "target", "--port", "0", "--verbose", "--count", "2", "--status", "500,200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        assert ready[:5] == ["kuueri", "target", "is", "ready", "on"]
        headers = {"webhook-id": "task_0", "X-Kuueri-Tasks-Attempt": "1"}
        for _ in range(2):
            httpx.post(f"{ready[5]}/hook", headers=headers, content="a\x1bb\n", trust_env=False)
        lines = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert lines[0].split() == ["TIME", "METHOD", "PATH", "TASK", "ATTEMPT", "ANSWER", "BODY", "NOTES"]
    rows = [line.split(maxsplit=1)[1] for line in lines if "/hook" in line]
    assert rows[0].split() == ["POST", "/hook", "task", "1", "500", "4", "B"]
    assert rows[1].split()[:7] == ["POST", "/hook", "task", "1", "200", "4", "B"]
    assert rows[1].endswith("DUPLICATE: this attempt came before")
    assert "    webhook-id: task_0" in lines
    assert "    a\\x1bb\\n" in lines
    assert lines[-1] == "requests: 2, tasks: 1, duplicates: 1, missing: 0, late: 0, badly signed: 0"
