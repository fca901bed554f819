from benchmarks.harness.profile import Share, shares


def test_own_time_is_the_innermost_functions_and_total_time_counts_a_recursive_one_once() -> None:
    folded = [
        "run (a.py:1);step (b.py:2) 60",
        "run (a.py:1);step (b.py:2);step (b.py:2) 20",
        "run (a.py:1) 20",
    ]
    assert shares(folded) == [
        Share("step (b.py:2)", 80.0, 80.0),
        Share("run (a.py:1)", 20.0, 100.0),
    ]


def test_no_samples() -> None:
    assert shares([]) == []
