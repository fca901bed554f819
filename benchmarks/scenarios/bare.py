"""`bare`: Subscribe beside a handler that does nothing but one script call, in turns."""

import statistics

from benchmarks.harness import procfs, workload
from benchmarks.harness.children import python_module, running
from benchmarks.harness.load import WAIT_MS, Load, call
from benchmarks.harness.stage import Stage, now_ms, staged
from benchmarks.model import Figure, Options, Scenario, Values
from benchmarks.scenarios.common import ELSEWHERE_FIGURE, on_workers
from kuueri_grpc.store.data_dir import socket_path

_TASKS = 4_000
_ROUNDS = 5
_LOAD = Load(clients=1, connections=8, in_flight=64)
_READY_S = 20.0


async def _run(options: Options) -> Values:
    tasks = options.tasks or _TASKS
    async with staged(on_workers(options, 1)) as stage:
        arguments = [
            *python_module("benchmarks.harness.bare_server"),
            socket_path(stage.directory / "data"),
        ]
        async with running("bare", arguments, stage.directory) as child:
            address = await child.line(_READY_S)
            return await _in_turns(stage, address, child.pid, tasks)


async def _in_turns(stage: Stage, bare_address: str, bare_pid: int, tasks: int) -> Values:
    ours, bare, ratios, elsewhere = [], [], [], []
    ours_us: list[float] = []
    bare_us: list[float] = []
    # The first round is for warming up.
    for turn in range(_ROUNDS + 1):
        rates = {}
        for side in sorted(("bare", "ours"), reverse=turn % 2 == 0):
            address = bare_address if side == "bare" else None
            cpu_s = procfs.cpu_s([bare_pid])
            due_ms = now_ms() + WAIT_MS
            result = await call(
                stage, "Subscribe", workload.new_prefix(), tasks, due_ms, _LOAD, address=address
            )
            cpu_s = procfs.cpu_s([bare_pid]) - cpu_s
            rates[side] = result.tasks_per_s
            if turn:
                (bare_us if side == "bare" else ours_us).append(
                    result.per_task_us(cpu_s if side == "bare" else result.usage.server_s)
                )
                # The bare server counts as one of the others while it is called.
                elsewhere.append(0.0 if side == "bare" else result.usage.elsewhere_percent)
        if turn:
            ours.append(rates["ours"])
            bare.append(rates["bare"])
            ratios.append(100 * rates["ours"] / rates["bare"])
    return {
        "ratio": statistics.median(ratios),
        "ratio_least": min(ratios),
        "ratio_most": max(ratios),
        "subscribe": statistics.median(ours),
        "bare": statistics.median(bare),
        "server_cpu": statistics.median(ours_us),
        "bare_cpu": statistics.median(bare_us),
        "elsewhere": max(elsewhere),
    }


SCENARIO = Scenario(
    "bare",
    f"{_TASKS:,} tasks by Subscribe, {_LOAD}, on one server process, and as many calls of a grpc.aio "
    f"handler that does nothing but one script call on the same store; {_ROUNDS} times in turns",
    (
        Figure("ratio", "%", "`subscribe` over `bare` within a round. Median of the rounds."),
        Figure("ratio_least", "%", "The round with the least."),
        Figure("ratio_most", "%", "The round with the most."),
        Figure(
            "subscribe", "calls/s", "Tasks accepted: authenticated, validated, encrypted, stored. Median."
        ),
        Figure(
            "bare", "calls/s", "Calls of the bare handler: no token, no message read, one key set. Median."
        ),
        Figure("server_cpu", "us/call", "CPU of the server per task accepted. Median."),
        Figure("bare_cpu", "us/call", "CPU of the bare server per call. Median."),
        ELSEWHERE_FIGURE,
    ),
    _run,
    limit_s=240.0,
)
