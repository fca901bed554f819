"""The time of steps in Python."""

import statistics
import timeit
from collections.abc import Callable

from benchmarks.micro import samples
from kuueri_grpc.dispatcher.request import build_request
from kuueri_grpc.dispatcher.url import target_of
from kuueri_grpc.domain.decision import Progress, decide
from kuueri_grpc.domain.outcome import Outcome
from kuueri_grpc.domain.task import RepeatPolicy, RetryPolicy
from kuueri_grpc.pb import task_service_pb2
from kuueri_grpc.ports import Delivery
from kuueri_grpc.service.answers import to_task
from kuueri_grpc.service.requests import read_subscribe
from kuueri_grpc.service.views import FULL
from kuueri_grpc.store import codec
from kuueri_grpc.store.vault import Vault

_EVENT = b'{"n":2,"t":1700000000000,"e":"DISPATCHED","a":1}'


def steps() -> dict[str, Callable[[], object]]:
    """Return what to time: steps that each task takes once or more, by module and function."""
    request = samples.subscribe_request()
    wire = request.SerializeToString()
    spec, task = samples.spec(), samples.task()
    response = task_service_pb2.SubscribeResponse(task=to_task(task, FULL))
    packed_request, packed_policy = codec.pack_request(spec.target), codec.pack_policy(spec)
    vault = Vault(samples.KEYRING)
    sealed_request = vault.seal_request("project", spec.task_id, spec.target)
    secret = vault.seal_signing("project", samples.SIGNING_SECRET)
    sealed_signing = codec.pack_signing([(secret, None)]).encode()
    unsigned, signed = samples.delivery(signed=False), samples.delivery(signed=True)
    return {
        "pb: parse SubscribeRequest": lambda: task_service_pb2.SubscribeRequest.FromString(wire),
        "service.requests.read_subscribe": lambda: read_subscribe(request, samples.LIMITS, samples.NOW_MS),
        "service.answers.to_task": lambda: to_task(task, FULL),
        "pb: serialise SubscribeResponse": response.SerializeToString,
        "store.codec.pack_request": lambda: codec.pack_request(spec.target),
        "store.codec.pack_policy": lambda: codec.pack_policy(spec),
        "store.vault.seal_request": lambda: vault.seal_request("project", spec.task_id, spec.target),
        "store.vault.open_request": lambda: vault.open_request("project", spec.task_id, sealed_request),
        "store.vault.live_signing": lambda: vault.live_signing("project", sealed_signing, samples.NOW_MS),
        "store.codec.unpack_request": lambda: codec.unpack_request(packed_request),
        "store.codec.unpack_policy": lambda: codec.unpack_policy(packed_policy),
        "store.codec.event": lambda: codec.event(spec.task_id, _EVENT),
        "dispatcher.request.build_request": lambda: _build(unsigned),
        "dispatcher.request.build_request, signed": lambda: _build(signed),
        "domain.decision.decide, success": lambda: _decide(samples.SUCCESS),
        "domain.decision.decide, retry": lambda: _decide(samples.ERROR, samples.RETRY),
    }


def time_us(step: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Return the least and the median time of a step, in us, over `repeat` times 0.2 s or more."""
    timer = timeit.Timer(step)
    number, _ = timer.autorange()
    times_us = [1e6 * seconds / number for seconds in timer.repeat(repeat, number)]
    return min(times_us), statistics.median(times_us)


def _build(delivery: Delivery) -> bytes:
    return build_request(delivery, target_of(delivery.target), samples.NOW_MS).wire()


def _decide(outcome: Outcome, retry: RetryPolicy = RetryPolicy()) -> object:  # noqa: B008  it is frozen
    progress = Progress(retry_count=0, repeat_count=0, run_start_ms=samples.NOW_MS)
    return decide(retry, RepeatPolicy(), progress, outcome, now_ms=samples.NOW_MS, draw=0.5)
