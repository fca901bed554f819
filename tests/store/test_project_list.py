"""All projects, page by page: each once, whatever partition it is in and however many there are."""

import pytest

from kuueri_grpc.domain.errors import CursorInvalid
from kuueri_grpc.store.project_listing import ProjectListing
from tests.store.ports import QUEUE_LIMIT, Ports


async def make(ports: Ports, count: int) -> set[str]:
    made = {f"p{n:015}" for n in range(count)}
    for project_id in made:
        await ports.projects.create(f"{project_id}@example.com", "k", b"d", "whsec_s", project_id)
    return made


async def pages(listing: ProjectListing, page_size: int) -> list[list[str]]:
    found, cursor = list[list[str]](), None
    while True:
        page = await listing.page(page_size, cursor)
        found.append([project.project_id for project in page.projects])
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("page_size", [1, 2, 3, 5, 7, 100])
async def test_each_is_listed_once_and_pages_are_full(ports: Ports, page_size: int) -> None:
    made = await make(ports, 23)
    listing = ProjectListing(ports.runner, ports.settings.partitions, QUEUE_LIMIT)
    found = await pages(listing, page_size)
    ids = [project_id for page in found for project_id in page]
    assert made <= set(ids)
    assert len(ids) == len(set(ids))
    assert {len(page) for page in found[:-1]} <= {page_size}


async def test_a_project_has_the_limit_that_is_set_for_it(ports: Ports) -> None:
    await make(ports, 2)
    await ports.projects.set_task_limit(f"p{1:015}", 7)
    listing = ProjectListing(ports.runner, ports.settings.partitions, QUEUE_LIMIT)
    limits = {p.project_id: p.task_in_queue_limit for p in (await listing.page(100, None)).projects}
    assert (limits[f"p{0:015}"], limits[f"p{1:015}"]) == (QUEUE_LIMIT, 7)


@pytest.mark.parametrize("cursor", ["", "x", "99999/", "0", "0/A"])
async def test_another_cursor_is_refused(ports: Ports, cursor: str) -> None:
    listing = ProjectListing(ports.runner, ports.settings.partitions, QUEUE_LIMIT)
    with pytest.raises(CursorInvalid):
        await listing.page(1, cursor)
