"""Ours beside others: absolute figures drift from day to day and machine to machine, ratios less."""

from dataclasses import dataclass

from benchmarks.full.peers import OURS, WORKLOADS, Compared
from benchmarks.full.results import Results, Spread


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure of ours and of another system. `ratio` above 1: ours is so many times better."""

    workload: str
    compared: Compared
    peer: str
    ours: Spread
    theirs: Spread

    @property
    def ratio(self) -> float:
        """Ours over theirs where more is better, theirs over ours where less is."""
        ours, theirs = self.ours.median, self.theirs.median
        return ours / theirs if self.compared.more else theirs / ours


def ratios(results: Results) -> list[Ratio]:
    """Return all that can be divided, in the order of the workloads."""
    return [
        Ratio(workload.name, compared, peer, systems[OURS][compared.key], figures[compared.key])
        for workload in WORKLOADS
        for systems in [results.peers.get(workload.name, {})]
        for compared in workload.compared
        for peer, figures in systems.items()
        if peer != OURS and compared.key in systems.get(OURS, {}) and compared.key in figures
        if systems[OURS][compared.key].median > 0 and figures[compared.key].median > 0
    ]
