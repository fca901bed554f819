"""An operator's view: answers of an admin endpoint, and the numbers in them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Answer:
    """What an admin endpoint answered."""

    status: int
    content_type: str
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Numbers:
    """The samples of a scrape in Prometheus's text format."""

    samples: dict[str, list[tuple[dict[str, str], float]]] = field(default_factory=dict)

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the series that have these labels; 0 if there are none."""
        return sum(value for found, value in self.samples.get(name, ()) if labels.items() <= found.items())

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the values of a metric by one label; series that differ in others are summed."""
        values: dict[str, float] = {}
        for labels, value in self.samples.get(name, ()):
            values[labels[label]] = values.get(labels[label], 0) + value
        return values

    def counted(self, name: str, label: str) -> dict[str, float]:
        """Return `by`, without what is 0."""
        return {value: count for value, count in self.by(name, label).items() if count}

    def has(self, name: str) -> bool:
        return name in self.samples


async def get(address: str | Path, path: str, accept: str = "text/plain") -> Answer:
    """Ask an admin endpoint at `host:port` or on a unix socket."""
    connector = aiohttp.UnixConnector(str(address)) if isinstance(address, Path) else None
    host = "unix" if isinstance(address, Path) else address
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://{host}{path}", headers={"Accept": accept}) as response,
    ):
        return Answer(response.status, response.headers["Content-Type"], await response.text())


async def scrape(address: str | Path, path: str = "/metrics") -> Numbers:
    """Return the numbers of an admin endpoint."""
    return numbers((await get(address, path)).text)


def numbers(text: str) -> Numbers:
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for metric in text_string_to_metric_families(text):
        for sample in metric.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return Numbers(samples)
