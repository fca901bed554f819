"""What a server may lose, by its settings."""

import pytest

from kuueri_grpc.store.durability import Kind, weaknesses

SAFE = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


def test_what_loses_nothing_is_no_weakness() -> None:
    assert list(weaknesses(SAFE)) == []


@pytest.mark.parametrize(
    ("settings", "kind", "loss"),
    [
        (SAFE | {"appendonly": "no"}, Kind.NOT_DURABLE, "since its last snapshot"),
        (SAFE | {"appendfsync": "no"}, Kind.NOT_DURABLE, "half a minute's tasks may be lost"),
        (SAFE | {"appendfsync": "everysec"}, Kind.SYNCS_LATER, "up to two seconds' tasks are lost"),
        (SAFE | {"no-appendfsync-on-rewrite": "yes"}, Kind.NOT_DURABLE, "accepted meanwhile"),
        ({}, Kind.UNKNOWN, "does not show whether it keeps an append-only file"),
        ({"appendonly": "yes"}, Kind.UNKNOWN, "does not show when it syncs"),
        ({"appendonly": "no"}, Kind.NOT_DURABLE, "since its last snapshot"),
        # Where it never syncs, it matters little that it does not during a rewrite.
        (
            SAFE | {"appendfsync": "no", "no-appendfsync-on-rewrite": "yes"},
            Kind.NOT_DURABLE,
            "half a minute's tasks may be lost",
        ),
    ],
)
def test_a_weakness_says_what_may_be_lost(settings: dict[str, str], kind: Kind, loss: str) -> None:
    (found,) = weaknesses(settings)
    assert found.kind is kind
    assert loss in found.loss


def test_each_weakness_is_said() -> None:
    both = SAFE | {"appendfsync": "everysec", "no-appendfsync-on-rewrite": "yes"}
    assert [found.kind for found in weaknesses(both)] == [Kind.SYNCS_LATER, Kind.NOT_DURABLE]
