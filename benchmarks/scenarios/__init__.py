"""The ways to measure, in the order in which they are run and shown."""

from benchmarks.model import Scenario
from benchmarks.scenarios import accept, burst, cancel, idle, recover, scale, spread, watch

SCENARIOS: dict[str, Scenario] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (spread, burst, idle, accept, watch, cancel, recover, scale)
}
