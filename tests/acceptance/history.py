"""The records of a task in the store, looked at from outside."""

from redis import Redis

THREE_DAYS_MS = 3 * 86_400_000
#: Databases with records of single tasks: execution, execution configuration, timeline.
RECORDS = {1: "task", 2: "config", 3: "timeline"}


def records(store: Redis, project_id: str, task_id: str) -> dict[int, list[bytes]]:
    """Return the keys of a task by database."""
    found = {}
    for database in range(4):
        store.select(database)
        found[database] = list(store.scan_iter(match=f"*{project_id}/{task_id}*", count=1_000))
    store.select(0)
    return found


def assert_expires_in_three_days(store: Redis, project_id: str, task_id: str) -> None:
    """Every record of an ended task is there, and has a time to live that began at its end."""
    keys = records(store, project_id, task_id)
    assert {database: len(found) for database, found in keys.items()} == {0: 0, 1: 1, 2: 1, 3: 1}
    for database in RECORDS:
        store.select(database)
        for key in keys[database]:
            left_ms = int(store.pttl(key))
            assert THREE_DAYS_MS - 600_000 < left_ms <= THREE_DAYS_MS, (key, left_ms)
    store.select(0)
