"""How long a process that ended is left alone."""

from kuueri_grpc.process.backoff import RestartBackoff


def test_waits_double_up_to_five_seconds() -> None:
    backoff = RestartBackoff()
    assert [backoff.after(0) for _ in range(9)] == [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]


def test_a_long_life_makes_them_short_again() -> None:
    backoff = RestartBackoff()
    assert [backoff.after(29_999) for _ in range(3)] == [100, 200, 400]
    assert [backoff.after(30_000), backoff.after(0)] == [100, 200]
