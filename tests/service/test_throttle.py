"""Too many calls, over real channels: of a project, on one server and on two; of an address."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from kuueri_grpc.engine import authentication, token_format
from kuueri_grpc.engine.buckets import Rate
from kuueri_grpc.pb import project_service_pb2 as projects_pb
from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.ports import Telemetry, Throttled
from kuueri_grpc.service.wire import WireLimits
from tests.service import watching
from tests.service.edge import Caller, Edge, Metadata, serving
from tests.service.statuses import Refusal, refusal, refusal_of

#: So long that nothing comes back during a test.
HOUR_S = 3_600
LIMIT = 40


class Counted(Telemetry):
    def __init__(self) -> None:
        self.by: list[Throttled] = []

    def call_throttled(self, by: Throttled) -> None:
        self.by.append(by)


@pytest.fixture
def counted() -> Counted:
    return Counted()


async def get_project(edge: Edge, metadata: Metadata) -> None:
    await edge.projects.GetProject(projects_pb.GetProjectRequest(), metadata=metadata)


async def accepted(edge: Edge, owner: Caller, tries: int) -> tuple[int, list[Refusal]]:
    """Call so often at once; return how many were let in, and what the others were told."""
    calls = (get_project(edge, owner.metadata) for _ in range(tries))
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [refusal_of(result) for result in results if isinstance(result, grpc.aio.AioRpcError)]
    return results.count(None), refused


async def batch(edge: Edge, owner: Caller, count: int) -> None:
    request = pb.BatchSubscribeRequest(tasks=[watching.task(f"b{i}") for i in range(count)])
    await edge.tasks.BatchSubscribe(request, metadata=owner.metadata)


def calls_to_come_back(refused: Refusal) -> float:
    """Return how many calls have to come back before one is let in again."""
    wait_ms: int = refused.details["RetryInfo"].retry_delay.ToMilliseconds()
    return wait_ms / (1_000 * HOUR_S / LIMIT)


def assert_told(refused: Refusal, subject: str, within_ms: int) -> None:
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    (violation,) = refused.details["QuotaFailure"].violations
    assert violation.subject == subject
    assert 0 < refused.details["RetryInfo"].retry_delay.ToMilliseconds() <= within_ms


class TestProject:
    @pytest.fixture
    async def edge(self, store_url: str, counted: Counted) -> AsyncIterator[Edge]:
        async with serving(store_url, calls=Rate(LIMIT, HOUR_S), telemetry=counted) as edge:
            yield edge

    async def test_has_its_calls_and_is_told_when_there_is_another(
        self, edge: Edge, owner: Caller, stranger: Caller, counted: Counted
    ) -> None:
        count, refused = await accepted(edge, owner, LIMIT + 10)
        assert (count, len(refused)) == (LIMIT, 10)
        for one in refused:
            assert_told(one, f"project:{owner.project_id}", within_ms=1_000 * HOUR_S // LIMIT + 1)
        assert counted.by == [Throttled.PROJECT] * 10
        assert (await accepted(edge, stranger, 1))[0] == 1

    async def test_streams_are_calls_too(self, edge: Edge, owner: Caller) -> None:
        await accepted(edge, owner, LIMIT)
        assert_told(
            await refusal(watching.watch(edge, owner, pb.WatchRequest(all=True))),
            f"project:{owner.project_id}",
            within_ms=1_000 * HOUR_S,
        )

    async def test_a_batch_is_let_in_and_counts_as_its_tasks(self, edge: Edge, owner: Caller) -> None:
        await watching.subscribe(edge, owner, *(watching.task(str(i)) for i in range(LIMIT - 5)))
        assert (await accepted(edge, owner, LIMIT))[0] == 5

    async def test_a_batch_beyond_what_is_left_is_refused_whole(
        self, edge: Edge, owner: Caller, counted: Counted
    ) -> None:
        await accepted(edge, owner, LIMIT - 10)
        told = await refusal(batch(edge, owner, 11))
        # One more than is left, and the call that was refused counts as one.
        assert_told(told, f"project:{owner.project_id}", within_ms=2_000 * HOUR_S // LIMIT + 1)
        assert "a batch of 11 tasks counts as so many calls" in told.text
        assert counted.by == [Throttled.PROJECT]
        listed = await edge.tasks.ListTasks(pb.ListTasksRequest(), metadata=owner.metadata)
        assert not listed.tasks
        await batch(edge, owner, 8)  # the two calls before it count, too
        assert (await accepted(edge, owner, 1))[0] == 0

    async def test_a_batch_of_more_than_the_limit_needs_a_full_bucket(
        self, edge: Edge, owner: Caller, stranger: Caller
    ) -> None:
        await batch(edge, owner, 4 * LIMIT)
        for call in (batch(edge, owner, 2), get_project(edge, owner.metadata)):
            # All that it was too many has to come back.
            assert 3 * LIMIT < calls_to_come_back(await refusal(call)) <= 3 * LIMIT + 2
        await get_project(edge, stranger.metadata)
        assert "or in smaller batches" in (await refusal(batch(edge, stranger, LIMIT + 1))).text

    async def test_a_batch_that_is_too_large_is_charged_as_the_largest(
        self, edge: Edge, owner: Caller
    ) -> None:
        assert (await refusal(batch(edge, owner, 1_001))).code == grpc.StatusCode.INVALID_ARGUMENT
        refused = await refusal(get_project(edge, owner.metadata))
        assert calls_to_come_back(refused) <= 1_000 - LIMIT + 2


class TestInstances:
    async def test_share_what_a_project_may(self, store_url: str) -> None:
        rate = Rate(LIMIT, HOUR_S)
        async with (
            serving(store_url, calls=rate, instance="one") as one,
            serving(store_url, calls=rate, instance="two") as two,
        ):
            owner = await one.register("owner@example.com")
            assert (await accepted(one, owner, LIMIT // 2))[0] == LIMIT // 2
            heard = hears(two)
            await one.engine.throttle.tell()
            await heard.wait()
            assert (await accepted(two, owner, LIMIT))[0] == LIMIT // 2

            heard = hears(one)
            await two.engine.throttle.tell()
            await heard.wait()
            assert (await accepted(one, owner, 1))[0] == 0

    async def test_pay_for_large_batches_of_each_other(self, store_url: str) -> None:
        """Each lets one in that begins with a full bucket; what both are too many delays both."""
        rate = Rate(LIMIT, HOUR_S)
        async with (
            serving(store_url, calls=rate, instance="one") as one,
            serving(store_url, calls=rate, instance="two") as two,
        ):
            owner = await one.register("owner@example.com")
            for edge in (one, two):
                await batch(edge, owner, 3 * LIMIT)
            for teller, hearer in ((one, two), (two, one)):
                heard = hears(hearer)
                await teller.engine.throttle.tell()
                await heard.wait()
            for edge in (one, two):
                refused = await refusal(get_project(edge, owner.metadata))
                assert 5 * LIMIT < calls_to_come_back(refused) <= 5 * LIMIT + 2

    async def test_tell_each_other_by_themselves(self, store_url: str) -> None:
        rate = Rate(LIMIT, HOUR_S)
        async with (
            serving(store_url, calls=rate, instance="one") as one,
            serving(store_url, calls=rate, instance="two") as two,
        ):
            owner = await one.register("owner@example.com")
            heard = hears(two)
            telling = asyncio.create_task(one.engine.throttle.run())
            await get_project(one, owner.metadata)
            await heard.wait()
            telling.cancel()
            assert (await accepted(two, owner, LIMIT))[0] == LIMIT - 1


def hears(edge: Edge) -> asyncio.Event:
    """Return an event that is set when the server has heard what another one let in."""
    heard, throttle = asyncio.Event(), edge.engine.throttle
    count = throttle.spent_elsewhere

    def spent_elsewhere(spent: dict[str, int]) -> None:
        count(spent)
        heard.set()

    throttle.spent_elsewhere = spent_elsewhere  # type: ignore[method-assign, assignment]
    return heard


class TestPeer:
    @pytest.fixture
    async def edge(self, store_url: str, counted: Counted) -> AsyncIterator[Edge]:
        wire = WireLimits(peer_failures=Rate(3, HOUR_S), peer_registrations=Rate(4, HOUR_S))
        async with serving(store_url, wire=wire, telemetry=counted) as edge:
            yield edge

    @staticmethod
    async def refused(edge: Edge, stranger: Caller) -> Metadata:
        """Let the address send so many wrong tokens that it is refused; return one of them."""
        wrong: Metadata = (("authorization", f"Bearer {stranger.token[:-1]}"),)
        for _ in range(3):
            assert (await refusal(get_project(edge, wrong))).reason == "TOKEN_INVALID"
        return wrong

    async def test_that_sends_wrong_tokens_is_not_looked_up_any_more(
        self, edge: Edge, owner: Caller, stranger: Caller, counted: Counted
    ) -> None:
        await get_project(edge, owner.metadata)  # its token is remembered
        wrong = await self.refused(edge, stranger)

        assert_told(await refusal(get_project(edge, wrong)), "peer:127.0.0.1", 1_000 * HOUR_S // 3 + 1)
        # Who is known, behind the same address, does not notice.
        await get_project(edge, owner.metadata)
        assert counted.by == [Throttled.FAILED_AUTHENTICATION]

    async def test_that_is_refused_has_its_valid_tokens_looked_up(
        self, edge: Edge, owner: Caller, stranger: Caller, counted: Counted
    ) -> None:
        """One that this process has never seen, behind others that are well formed, and none."""
        await self.refused(edge, stranger)
        unknown = [token_format.new_token(owner.project_id)[1] for _ in range(50)]

        *refused, _ = await asyncio.gather(
            *(refusal(get_project(edge, Caller("", token).metadata)) for token in unknown),
            get_project(edge, stranger.metadata),
        )

        assert {one.reason for one in refused if one} == {"RATE_LIMITED"}
        assert counted.by == [Throttled.FAILED_AUTHENTICATION] * 50

    async def test_that_is_refused_has_its_valid_tokens_read_anew(
        self, edge: Edge, owner: Caller, stranger: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As each is every few seconds, and when one of its project has ended."""
        monkeypatch.setattr(authentication, "_REMEMBERED_S", -1.0)
        await get_project(edge, owner.metadata)
        await self.refused(edge, stranger)

        await get_project(edge, owner.metadata)
        edge.engine.authenticator.forget(owner.project_id)
        await get_project(edge, owner.metadata)

    async def test_what_headers_say_of_another_address_does_not_count(self, edge: Edge) -> None:
        forwarded: list[Metadata] = [
            (("authorization", "Bearer x"), ("x-forwarded-for", address), ("forwarded", f"for={address}"))
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
        ]
        for metadata in forwarded[:3]:
            assert (await refusal(get_project(edge, metadata))).reason == "TOKEN_INVALID"
        told = await refusal(get_project(edge, forwarded[3]))
        assert_told(told, "peer:127.0.0.1", 1_000 * HOUR_S)

    async def test_registers_so_many(self, edge: Edge, counted: Counted) -> None:
        for i in range(4):
            await edge.register(f"{i}@example.com")
        request = projects_pb.RegisterRequest(email="5@example.com")
        assert_told(await refusal(edge.projects.Register(request)), "peer:127.0.0.1", 1_000 * HOUR_S)
        assert counted.by == [Throttled.REGISTRATION]

    async def test_that_guesses_the_admin_token_has_to_wait(self, store_url: str) -> None:
        wire = WireLimits(peer_failures=Rate(2, HOUR_S))
        async with serving(store_url, wire=wire, admin_token="secret") as edge:
            request = projects_pb.RegisterRequest(email="1@example.com")
            for guess, reason in (("a", "TOKEN_INVALID"), ("b", "TOKEN_INVALID"), ("secret", "RATE_LIMITED")):
                call = edge.projects.Register(request, metadata=(("authorization", f"Bearer {guess}"),))
                assert (await refusal(call)).reason == reason
