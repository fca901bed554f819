"""Pages of all projects, partition by partition."""

import re
from dataclasses import dataclass

from kuueri_grpc.domain.errors import CursorInvalid
from kuueri_grpc.ports import Project, ProjectPage
from kuueri_grpc.store.fitness import text
from kuueri_grpc.store.scripts import ScriptRunner

#: Projects in one script call: long calls hold up every other client of the store.
CHUNK = 100
#: Partitions that are asked at once, and how often for one page: most may have no project.
_ROUND, _MOST_ROUNDS = 32, 16
_CURSOR = re.compile(r"(\d{1,5})/([0-9a-z]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Place:
    """Behind the project `after` of a partition; '' before its first one."""

    partition: int
    after: str = ""


class ProjectListing:
    """The index of projects of each partition is read in order, a bounded number at a time."""

    def __init__(self, runner: ScriptRunner, partitions: int, queue_limit: int) -> None:
        self._runner = runner
        self._partitions = partitions
        self._queue_limit = queue_limit

    async def page(self, page_size: int, cursor: str | None) -> ProjectPage:
        """See `ports.ProjectStore.list_projects`."""
        place = self._position(cursor)
        projects: list[Project] = []
        for _ in range(_MOST_ROUNDS):
            place = await self._round(place, page_size, projects)
            if place.partition == self._partitions:
                return ProjectPage(projects, None)
            if len(projects) == page_size:
                break
        return ProjectPage(projects, f"{place.partition}/{place.after}")

    async def _round(self, place: "_Place", page_size: int, projects: list[Project]) -> "_Place":
        """Add projects from a place on, up to a full page; return the place where it goes on."""
        most = min(CHUNK, page_size - len(projects))
        partitions = range(place.partition, min(place.partition + _ROUND, self._partitions))
        begins = [place.after, *[""] * (len(partitions) - 1)]
        calls = [(p, (begin, most)) for p, begin in zip(partitions, begins, strict=True)]
        answers = await self._runner.run_many("project_list", calls)
        for partition, (last, found) in zip(partitions, answers, strict=True):
            room = page_size - len(projects)
            if room == 0:
                return _Place(partition)
            projects += [self._project(*facts) for facts in found[:room]]
            if len(found) > room:
                return _Place(partition, projects[-1].project_id)
            if last:
                return _Place(partition, text(last))
        return _Place(partitions.stop)

    def _position(self, cursor: str | None) -> "_Place":
        if cursor is None:
            return _Place(0)
        match = _CURSOR.fullmatch(cursor)
        if match is None or int(match[1]) >= self._partitions:
            raise CursorInvalid("the page token is not one that ListProjects gave")
        return _Place(int(match[1]), match[2])

    def _project(self, project_id: bytes, email: bytes, create: bytes, count: bytes, limit: bytes) -> Project:
        return Project(
            project_id=text(project_id),
            email=text(email),
            create_time_ms=int(create),
            task_in_queue=int(count),
            task_in_queue_limit=int(limit) if limit else self._queue_limit,
        )
