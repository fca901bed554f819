"""The command `kuueri demo`."""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from kuueri_grpc.cli.client import Client, Connection
from kuueri_grpc.cli.demo.child import Child
from kuueri_grpc.cli.demo.stage import Stage
from kuueri_grpc.cli.durations import format_duration_ms
from kuueri_grpc.cli.errors import CliError
from kuueri_grpc.cli.follow import follow
from kuueri_grpc.cli.help import SectionedCommand
from kuueri_grpc.cli.options import Json
from kuueri_grpc.cli.output import Output
from kuueri_grpc.cli.request import (
    PolicyOptions,
    ScheduleOptions,
    SubscribeOptions,
    TargetOptions,
    build_request,
)
from kuueri_grpc.cli.target.order import Order
from kuueri_grpc.cli.target.server import VALID, Received
from kuueri_grpc.cli.target.view import RequestView
from kuueri_grpc.cli.watch import show
from kuueri_grpc.pb.project_service_pb2 import RegisterRequest
from kuueri_grpc.pb.task_service_pb2 import WatchRequest

app = typer.Typer(rich_markup_mode=None)

_READY = re.compile(r"kuueri is ready on (\S+)")
_LOOPBACK = ("--allow-target", "127.0.0.0/8")
_SECOND_MS = 1_000


@app.command("demo", cls=SectionedCommand)
def demo(as_json: Json = False) -> None:
    """See one task from subscribe to its last event, on a server of its own.

    Starts a server with an empty store and a target that fails twice, sends a task that is retried and
    one that is repeated, shows their timelines live and what the target received. Nothing is left
    running, and no file.
    """
    output = Output(as_json)
    started = time.monotonic()
    with Stage() as stage:
        requests = Demonstration(output, stage).run()
    if not as_json:
        elapsed = format_duration_ms(round((time.monotonic() - started) * 10) * 100)
        output.line()
        output.line(
            f"Done in {elapsed}: both tasks completed; the target got {requests} requests,"
            " each once, in order and rightly signed."
        )


@dataclass(frozen=True, slots=True)
class Act:
    """A task, and what the target is to answer to it, one attempt after the other."""

    title: str
    options: SubscribeOptions
    answers: tuple[int, ...]


def acts(url: str) -> list[Act]:
    """Return the acts, for a target at `url` that answers 500, 500, and 200 from then on."""
    return [
        Act(
            "A task that is due in 1 s, with up to 3 retries, 1 s apart",
            SubscribeOptions(
                target=TargetOptions(url=f"{url}/retried", body=b'{"order": 42}'),
                schedule=ScheduleOptions(delay_ms=_SECOND_MS),
                retry=PolicyOptions(flag="retry", count=3, interval_ms=_SECOND_MS),
                repeat=PolicyOptions(flag="repeat"),
            ),
            (500, 500, 200),
        ),
        Act(
            "A task that is due at once, and repeated once, 1 s later",
            SubscribeOptions(
                target=TargetOptions(url=f"{url}/repeated", body=b'{"order": 43}'),
                schedule=ScheduleOptions(),
                retry=PolicyOptions(flag="retry"),
                repeat=PolicyOptions(flag="repeat", count=1, interval_ms=_SECOND_MS),
            ),
            (200, 200),
        ),
    ]


class Demonstration:
    """Plays the acts on real processes, and checks what came of them."""

    def __init__(self, output: Output, stage: Stage) -> None:
        self._output = output
        self._stage = stage

    def run(self) -> int:
        """Play all acts; return how many requests the target received.

        Raises:
            CliError: A process did not start, or a task did not go as it should.
        """
        address = self._start_server()
        with Client(Connection(address)) as client:
            made = client.call(client.projects.Register, RegisterRequest(email="demo@example.com"))
        target, url = self._start_target(made.signing_secret)
        self._say(f"server   {address}, its store in a directory that goes away with it")
        self._say(f"target   {url}, answers 500, 500, and 200 from then on")
        self._say(f"project  {made.project.project_id}")
        requests = 0
        with Client(Connection(address, made.token, "registration")) as client:
            for act in acts(url):
                requests += len(self._play(act, client, target))
        return requests

    def _start_server(self) -> str:
        server = self._stage.start(
            "serve", "--port", "0", "--data-dir", str(self._stage.directory / "data"), *_LOOPBACK
        )
        return server.wait_for(_READY)[1]

    def _start_target(self, signing_secret: str) -> tuple[Child, str]:
        target = self._stage.start(
            "target",
            *("--port", "0", "--status", "500,500,200", "--json"),
            # Not as an option: those can be seen by every user of the machine.
            environment={"KUUERI_SIGNING_SECRET": signing_secret},
        )
        url: str = json.loads(target.line())["url"]
        return target, url

    def _play(self, act: Act, client: Client, target: Child) -> list[Received]:
        self._say("", f"{act.title}:", "")
        task = client.call(client.tasks.Subscribe, build_request(act.options)).task
        watched = follow(client, WatchRequest(task_id=task.task_id), self._output.notice)
        ending = show(watched, self._output)
        if ending != "COMPLETED":
            raise CliError(f"the task ended as {ending}, not as COMPLETED")
        self._say("", "What the target received:", "")
        received = []
        view = RequestView(self._output, verbose=False)
        for _ in act.answers:
            document = json.loads(target.line())
            request = Received.from_document(document)
            received.append(request)
            if self._output.as_json:
                self._output.document(document)
            else:
                view.show(request)
        check(received, task.task_id, act.answers)
        return received

    def _say(self, *lines: str) -> None:
        if not self._output.as_json:
            for line in lines:
                self._output.line(line)


def check(received: Sequence[Received], task_id: str, answers: Sequence[int]) -> None:
    """Compare what the target received with what it should have.

    Raises:
        CliError: It is something else.
    """
    expected = [(task_id, number, answer, Order.NEXT, VALID) for number, answer in enumerate(answers, 1)]
    found = [(r.task_id, r.attempt, r.status, r.order, r.signature) for r in received]
    if found != expected:
        raise CliError(f"the target received {found}, not {expected}")
