"""Timelines that are too long to be kept whole, as clients get them."""

from collections.abc import AsyncIterator

import grpc
import pytest

from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.pb.timeline_pb2 import TimelineGap
from tests.service.edge import Caller, Edge, serving
from tests.service.statuses import refusal
from tests.service.watching import pause, read, resume, shorts, subscribe, task, watch

TASK_A = pb.WatchRequest(task_id="a")
#: Of 60 events: with a cap of 40, the first 2 are kept and the newest 36, or more of these.
CAP, EVENTS = 40, 60


@pytest.fixture
async def edge(store_url: str) -> AsyncIterator[Edge]:
    async with serving(store_url, timeline_cap=CAP) as edge:
        yield edge


@pytest.fixture
async def owner(edge: Edge) -> Caller:
    """The owner of a task "a" with many events."""
    owner = await edge.register("owner@example.com")
    await subscribe(edge, owner, task("a"))
    await go_on(edge, owner, 1, EVENTS)
    return owner


async def go_on(edge: Edge, owner: Caller, events: int, until: int) -> None:
    for sequence in range(events + 1, until + 1):
        await (resume if sequence % 2 else pause)(edge, owner)


async def timeline(edge: Edge, owner: Caller, **more: object) -> pb.GetTimelineResponse:
    request = pb.GetTimelineRequest(task_id="a", **more)  # type: ignore[arg-type]
    return await edge.tasks.GetTimeline(request, metadata=owner.metadata)


async def test_get_timeline_says_which_events_are_missing_on_each_page(edge: Edge, owner: Caller) -> None:
    sequences: list[int] = []
    page_token, pages = "", []
    while True:
        page = await timeline(edge, owner, page_size=7, page_token=page_token)
        sequences += [event.sequence for event in page.events]
        pages.append(page)
        page_token = page.next_page_token
        if not page_token:
            break

    (first,) = {page.first_sequence for page in pages}
    assert all(page.gap == TimelineGap(first_sequence=3, last_sequence=first - 1) for page in pages)
    assert sequences == [1, 2, *range(first, EVENTS + 1)]


async def test_one_that_is_kept_whole_has_no_gap(edge: Edge, owner: Caller) -> None:
    await subscribe(edge, owner, task("b"))
    page = await edge.tasks.GetTimeline(pb.GetTimelineRequest(task_id="b"), metadata=owner.metadata)
    assert (page.first_sequence, page.HasField("gap")) == (1, False)


async def test_a_page_token_whose_events_went_meanwhile(edge: Edge, owner: Caller) -> None:
    page = await timeline(edge, owner, page_size=4)
    await go_on(edge, owner, EVENTS, EVENTS + CAP)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await timeline(edge, owner, page_token=page.next_page_token)

    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "are not kept any more" in (refused.value.details() or "")


async def test_watch_sends_the_gap_in_its_place(edge: Edge, owner: Caller) -> None:
    first = (await timeline(edge, owner)).first_sequence
    stream = watch(edge, owner, TASK_A)

    messages = await read(stream, 4)

    assert shorts(messages) == ["snapshot", "1 SUBSCRIBED", "2 PAUSED", "gap"]
    assert messages[-1].gap == TimelineGap(first_sequence=3, last_sequence=first - 1)
    assert (await anext(stream)).event.sequence == first
    resumed = await read(watch(edge, owner, TASK_A, messages[-1].resume_token), 2)
    assert resumed[0].WhichOneof("message") == "snapshot"
    assert resumed[1].event.sequence == first


@pytest.mark.parametrize("place", [1, 2], ids=["1 SUBSCRIBED", "2 PAUSED"])
async def test_a_watch_is_not_resumed_over_the_gap(edge: Edge, owner: Caller, place: int) -> None:
    messages = await read(watch(edge, owner, TASK_A), 4)

    refused = await refusal(watch(edge, owner, TASK_A, messages[place].resume_token))

    assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "RESUME_TOKEN_TOO_OLD")
    again = await read(watch(edge, owner, TASK_A, messages[0].resume_token), 4)
    assert shorts(again) == shorts(messages)
