"""Figures that several scenarios give, and what several set."""

import dataclasses

from benchmarks.harness.arrivals import Deliveries
from benchmarks.model import BenchmarkFailed, Figure, Options, Values

DELIVERY_FIGURES = (
    Figure("arrived", "tasks", "Tasks that the target received at least once."),
    Figure("lost", "tasks", "Tasks that it never received."),
    Figure("duplicates", "requests", "Requests that it received beyond the first of each task."),
    Figure("early", "tasks", "Tasks whose first request came before their due time."),
)

ELSEWHERE_FIGURE = Figure(
    "elsewhere",
    "% of the machine",
    "CPU that processes outside the benchmark used meanwhile, and time that the host took away. Above a few "
    "percent the run is noisy: repeat it.",
    digits=1,
)


def delivery_values(seen: Deliveries) -> Values:
    """Return the values of `DELIVERY_FIGURES`. Raises `BenchmarkFailed`: nothing arrived at all."""
    if not seen.arrived:
        raise BenchmarkFailed(f"none of {seen.expected} tasks arrived")
    return {
        "arrived": seen.arrived,
        "lost": seen.lost,
        "duplicates": seen.duplicates,
        "early": seen.early,
    }


def lateness_figures(what: str) -> tuple[Figure, ...]:
    """Return the figures of a distribution of lateness."""
    return (
        Figure("late_p50", "ms", f"{what} Median."),
        Figure("late_p99", "ms", "99th percentile (nearest rank)."),
        Figure("late_max", "ms", "The latest task."),
    )


def lateness_values(seen: Deliveries) -> Values:
    """Return the values of `lateness_figures`."""
    return {"late_p50": seen.lateness(50), "late_p99": seen.lateness(99), "late_max": seen.lateness(100)}


def on_workers(options: Options, workers: int) -> Options:
    """Return the options with a number of worker processes, unless they say one themselves."""
    arguments = ("--workers", str(workers), *options.serve_arguments)
    return dataclasses.replace(options, serve_arguments=arguments)
