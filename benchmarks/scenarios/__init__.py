"""The ways to measure, in the order in which they are run and shown."""

from benchmarks.model import Scenario
from benchmarks.scenarios import accept, bare, burst, cancel, idle, recover, scale, spread, start, watch

SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (spread, burst, idle, accept, bare, watch, cancel, recover, start, scale)
}
