"""Every key, spelled once more: what is in a store must be found by every version."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuueri_grpc.store import keys

HASH_TAG = re.compile(r"^\{(\d+)\}:")
project_ids = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=24)


@pytest.mark.parametrize(
    ("project_id", "partitions", "partition"),
    [("project0000000000", 256, 60), ("a", 256, 67), ("a", 4, 3), ("", 256, 0), ("ü", 256, 213)],
)
def test_the_partition_of_a_project_never_changes(project_id: str, partitions: int, partition: int) -> None:
    """It is CRC-32 modulo P: a project that moved would not find its tasks."""
    assert keys.partition_of(project_id, partitions) == partition


@given(project_ids, st.integers(1, 1024))
def test_every_project_has_a_partition(project_id: str, partitions: int) -> None:
    assert 0 <= keys.partition_of(project_id, partitions) < partitions


def test_the_keys_of_a_partition() -> None:
    assert dict(zip(keys.SCRIPT_KEY_NAMES, keys.script_keys(7), strict=True)) == {
        "DUE": "{7}:due",
        "LEASES": "{7}:leases",
        "ENDED": "{7}:ended",
        "QUEUE": "{7}:queue:",
        "TASK": "{7}:task:",
        "INDEX": "{7}:index:",
        "REQUEST": "{7}:request:",
        "CLAIM": "{7}:claim:",
        "CONFIG": "{7}:config:",
        "TIMELINE": "{7}:timeline:",
        "PROJECT": "{7}:project:",
        "CREDENTIALS": "{7}:credentials:",
        "FEED": "{7}:feed:",
        "WAKE": "{7}:wake",
        "WATCH": "{7}:watch:",
        "NEWS": "{7}:news:",
        "CLOSED": "{7}:closed",
        "DEADLINES": "{7}:deadlines",
        "PROJECTS": "{7}:projects",
    }


def test_keys_that_are_used_outside_of_scripts_are_those_that_scripts_make() -> None:
    stems = dict(zip(keys.SCRIPT_KEY_NAMES, keys.script_keys(7), strict=True))

    assert keys.project(7, "p") == stems["PROJECT"] + "p"
    assert keys.credentials(7, "p") == stems["CREDENTIALS"] + "p"
    assert keys.wake_channel(7) == stems["WAKE"]
    assert keys.watch_channel(7, "p", "t") == stems["WATCH"] + "p/t"
    assert keys.news_channel(7, "p") == stems["NEWS"] + "p"


@given(st.integers(0, 1023))
def test_all_keys_of_a_partition_are_in_one_slot(partition: int) -> None:
    """A cluster hashes what is in the first braces only."""
    tags = {match[1] if (match := HASH_TAG.match(key)) else key for key in keys.script_keys(partition)}

    assert tags == {str(partition)}


#: The kinds of key by database, as the table at the top of keys.py has them.
TABLE = re.findall(r"^\| (\d)  \| `([^`]+)`", keys.__doc__ or "", re.MULTILINE)
#: What is no key but a channel: it is in no database.
CHANNELS = {"WAKE", "WATCH", "NEWS"}


def stem_of(name: str) -> str:
    """Return the part of a key that says what it is: all before the first part that varies."""
    return name.replace("{p}", "{7}").partition("<")[0].rstrip("~")  # which marks names of no instance


def test_no_name_occurs_in_two_databases() -> None:
    """On a cluster all keys are in one: no two kinds have a name in common, whatever callers choose."""
    by_stem = {stem_of(name): int(database) for database, name in TABLE}
    made = {
        stem
        for name, stem in zip(keys.SCRIPT_KEY_NAMES, keys.script_keys(7), strict=True)
        if name not in CHANNELS
    }
    outside_scripts = {keys.STORE, keys.INSTANCES, keys.INSTANCE_DETAILS, "kuueri:email:"}
    assert set(by_stem) == made | outside_scripts
    assert keys.email("a").startswith("kuueri:email:")
    assert set(by_stem.values()) == {keys.AUTHORISATION, keys.EXECUTION, keys.CONFIGURATION, keys.TIMELINE}

    # What follows a stem is chosen by callers: so no stem may begin another one, across databases.
    for stem, database in by_stem.items():
        for other, other_database in by_stem.items():
            if database != other_database:
                assert not other.startswith(stem), f"{stem} and {other}"


def test_an_address_is_one_in_whatever_case_and_not_readable_in_its_key() -> None:
    assert keys.email("Me@Example.com") == keys.email("me@example.COM")
    assert keys.email("me@example.com") != keys.email("you@example.com")
    assert keys.email("me@example.com") == (
        "kuueri:email:8c2a47d3bdb8d3096a6479f53eac3b724291db5f1c31611100f675be5537329d"
    )


def test_what_belongs_to_no_partition() -> None:
    assert keys.STORE == "kuueri:store"
    assert keys.instance_channel("i") == "kuueri:instance:i"
    assert (keys.AUTHORISATION, keys.EXECUTION, keys.CONFIGURATION, keys.TIMELINE) == (0, 1, 2, 3)
