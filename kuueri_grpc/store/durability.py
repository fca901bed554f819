"""What a server would lose of what it acknowledged, going by its settings: said in the log when we start.

It is no reason to refuse it: how much durability a task is worth is for the operator to decide.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from kuueri_grpc.store.cluster import ClusterClient
from kuueri_grpc.store.commands import Commands
from kuueri_grpc.store.errors import OUTAGES
from kuueri_grpc.store.fitness import hidden_as_nothing, text

_log = logging.getLogger(__name__)

_SETTINGS = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite")


class Kind(Enum):
    """How a store is weak: at INFO what an operator may well have chosen."""

    NOT_DURABLE = (logging.WARNING, {"event": "store_not_durable"})
    SYNCS_LATER = (logging.INFO, {"event": "store_syncs_later"})
    UNKNOWN = (logging.INFO, {"event": "store_durability_unknown"})


@dataclass(frozen=True, slots=True)
class Weakness:
    """What may be lost."""

    kind: Kind
    loss: str


async def warn_of_weak_durability(client: Commands) -> None:
    """Log what the store would lose when its process or its machine dies; nothing is said if that is nothing.

    Raises:
        RedisError, OSError, TimeoutError: it does not answer; of a cluster, nobody does.
    """
    if not isinstance(client, ClusterClient):
        for weakness in weaknesses(await _settings(client)):
            _tell("the store", weakness)
        return
    found: dict[Weakness, list[str]] = {}
    addresses = sorted((await client.nodes.look()).nodes)
    # A node that does not answer is left out, as it is when the cluster is checked.
    answers = await asyncio.gather(
        *(_settings(client.nodes.client(address)) for address in addresses), return_exceptions=True
    )
    for address, answer in zip(addresses, answers, strict=True):
        if isinstance(answer, BaseException):
            if not isinstance(answer, OUTAGES):
                raise answer
            continue
        for weakness in weaknesses(answer):
            found.setdefault(weakness, []).append(str(address))
    for weakness, nodes in found.items():
        _tell(f"each of the store's nodes {', '.join(nodes)}", weakness)


def weaknesses(settings: Mapping[str, str]) -> Iterator[Weakness]:
    """Yield what a server with these settings may lose; a setting that is hidden from us is not there."""
    match settings.get("appendonly"):
        case "no":
            yield Weakness(
                Kind.NOT_DURABLE,
                "keeps no append-only file (appendonly is 'no'): a crash of it loses every task that was "
                "accepted since its last snapshot; set appendonly to 'yes' and appendfsync to 'always'",
            )
            return
        case None:
            yield Weakness(
                Kind.UNKNOWN,
                "does not show whether it keeps an append-only file (CONFIG and INFO are not permitted): "
                "appendonly 'yes' and appendfsync 'always' are what loses nothing that was accepted",
            )
            return
    match settings.get("appendfsync"):
        case "no":
            yield Weakness(
                Kind.NOT_DURABLE,
                "leaves it to its system when its append-only file reaches the disk (appendfsync is 'no'): "
                "when its machine crashes or loses power, half a minute's tasks may be lost; set appendfsync "
                "to 'always'",
            )
        case "everysec":
            yield Weakness(
                Kind.SYNCS_LATER,
                "syncs to disk once a second (appendfsync is 'everysec'): when its machine crashes or loses "
                "power, or it is killed while a sync takes long, up to two seconds' tasks are lost; "
                "'always' loses none",
            )
        case None:
            yield Weakness(
                Kind.UNKNOWN,
                "does not show when it syncs its append-only file (CONFIG is not permitted): appendfsync "
                "'always' is what loses nothing that was accepted",
            )
    if settings.get("no-appendfsync-on-rewrite") == "yes" and settings.get("appendfsync") != "no":
        yield Weakness(
            Kind.NOT_DURABLE,
            "syncs nothing while it rewrites its append-only file (no-appendfsync-on-rewrite is 'yes'): when "
            "its machine crashes or loses power then, every task is lost that was accepted meanwhile; set "
            "no-appendfsync-on-rewrite to 'no'",
        )


async def _settings(client: Commands) -> dict[str, str]:
    answer = await hidden_as_nothing(client.config_get(*_SETTINGS))
    settings = {text(name): text(value) for name, value in answer.items()}
    if "appendonly" not in settings:
        persistence = await hidden_as_nothing(client.info("persistence"))
        if "aof_enabled" in persistence:
            settings["appendonly"] = "yes" if str(persistence["aof_enabled"]) == "1" else "no"
    return settings


def _tell(who: str, weakness: Weakness) -> None:
    level, fields = weakness.kind.value
    _log.log(level, "%s %s", who, weakness.loss, extra=fields)
