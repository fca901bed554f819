"""A client that watches whatever happens to servers: it goes on elsewhere, with its token."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import grpc
import grpc.aio

from kuueri_grpc.pb import task_service_pb2 as pb
from kuueri_grpc.pb.timeline_pb2 import TimelineEvent
from tests.acceptance.caller import Project, type_name
from tests.acceptance.served import PATIENCE_S

#: Before it tries again.
_PAUSE_S = 0.05
#: What a stream may end with while something is broken; with all else the watch could not go on.
_BROKEN = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


class Watcher:
    """Follows all tasks, or those of a queue.

    `reach`: gives the project as it calls some server, None where there is none. `told`: the events of each
    task as they came, over all streams. `seen`: how many of each type.
    """

    def __init__(self, name: str, scope: pb.WatchRequest, reach: Callable[[], Project | None]) -> None:
        self.name = name
        self.told: defaultdict[str, list[TimelineEvent]] = defaultdict(list)
        self.seen: Counter[str] = Counter()
        self.streams = 0
        self.faults: list[str] = []
        self._scope = scope
        self._reach = reach
        self._token = ""
        self._began = asyncio.Event()
        self._news = asyncio.Event()

    async def began(self) -> None:
        """Return when everything that happens from now on is told."""
        async with asyncio.timeout(PATIENCE_S):
            await self._began.wait()

    async def run(self) -> None:
        """Watch until cancelled, or until it cannot go on."""
        while not self.faults:
            project = self._reach()
            if project is not None:
                await self._follow(project)
            await asyncio.sleep(_PAUSE_S)

    async def _follow(self, project: Project) -> None:
        """Read one stream to its end."""
        self.streams += 1
        request = pb.WatchRequest(resume_token=self._token)
        request.MergeFrom(self._scope)
        try:
            stream = project.tasks.Watch(request, metadata=project.metadata)
            async for message in stream:
                self._take(message)
        except grpc.aio.AioRpcError as error:
            if error.code() not in _BROKEN:
                self.faults.append(f"the watch of {self.name} ended: {error.code().name}, {error.details()}")
        except grpc.aio.UsageError:
            return  # the channel was closed meanwhile
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Its channel was closed.

    def _take(self, message: pb.WatchResponse) -> None:
        self._token = message.resume_token or self._token
        kind = message.WhichOneof("message")
        if kind == "synced":
            self._began.set()
        elif kind == "event":
            self.told[message.event.task_id].append(message.event)
            self.seen[type_name(message.event)] += 1
            self._news.set()

    async def tells(self, last: Mapping[str, int], patience_s: float) -> None:
        """Return when the last event of each of these tasks was told, or not within a time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                for task_id, sequence in last.items():
                    while not (told := self.told[task_id]) or told[-1].sequence < sequence:
                        self._news.clear()
                        await self._news.wait()


def watched(
    name: str,
    told: Mapping[str, Sequence[TimelineEvent]],
    timelines: Mapping[str, Sequence[TimelineEvent]],
) -> Iterator[str]:
    """Every event is told once, in order, as the timeline has it, and nothing else is."""
    for task_id, events in timelines.items():
        heard = told.get(task_id, ())
        if list(heard) != list(events):
            sequences = [event.sequence for event in heard]
            what = f"told events {sequences} of {len(events)}"
            if sequences == [event.sequence for event in events]:
                what = f"told {heard}, not {events}"
            yield f"{task_id}: the watch of {name} {what}"
    for task_id in {task_id for task_id, heard in told.items() if heard} - timelines.keys():
        yield f"{task_id}: the watch of {name} told of a task that is not its business"
