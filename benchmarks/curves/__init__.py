"""What grows, and what it costs: one curve each, in the order in which they are run and shown."""

from benchmarks.curves import projects, queues, waiting, watchers, workers
from benchmarks.curves.model import Curve

CURVES: dict[str, Curve] = {
    module.CURVE.name: module.CURVE for module in (waiting, queues, projects, watchers, workers)
}
