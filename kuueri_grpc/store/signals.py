"""The `SignalBus` port, on publish and subscribe: one connection per process."""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import Changed, Due, Lease, Reconnected, Revoke, Revoked, Signal
from kuueri_grpc.store import keys
from kuueri_grpc.store.errors import outages_mapped

_BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class RedisSignalBus:
    """`ports.SignalBus`. `listen` owns the connection; `follow` and `unfollow` change what it hears."""

    def __init__(self, client: Redis, partitions: int, instance: str) -> None:
        self._client = client
        self._partitions = partitions
        self._own = keys.instance_channel(instance).encode()
        self._wakes = {keys.wake_channel(p).encode(): p for p in range(partitions)}
        self._followers: Counter[bytes] = Counter()
        self._followed: dict[bytes, tuple[str, str]] = {}
        self._changing = asyncio.Lock()
        self._confirmed: dict[bytes, asyncio.Event] = {}
        self._pubsub: PubSub | None = None

    async def listen(self) -> AsyncIterator[Signal]:
        """See `ports.SignalBus`."""
        failures = 0
        while True:
            try:
                async with self._client.pubsub() as pubsub:
                    early = await self._subscribe_all(pubsub)
                    self._pubsub = pubsub
                    yield Reconnected()
                    failures = 0
                    for signal in early:
                        yield signal
                    while True:
                        heard = self._signal(await self._message(pubsub))
                        if heard is not None:
                            yield heard
            except (RedisError, OSError, TimeoutError):
                wait = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                failures += 1
                # Spread out, so that a store coming back is not met by everybody at once.
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret
            finally:
                self._pubsub = None

    async def _subscribe_all(self, pubsub: PubSub) -> list[Signal]:
        """Return when every subscription is in force, with the signals that came in between.

        Only then is it safe to look at the store: what changes after the look is signalled.
        """
        unconfirmed = {self._own, *self._wakes, *self._followed}
        await pubsub.subscribe(*unconfirmed)
        early = []
        while unconfirmed:
            message = await self._message(pubsub)
            if message["type"] == "subscribe":
                unconfirmed.discard(message["channel"])
            if (signal := self._signal(message)) is not None:
                early.append(signal)
        return early

    async def _message(self, pubsub: PubSub) -> dict[str, Any]:
        response = await pubsub.parse_response()
        # The library leaves this method without types.
        message: dict[str, Any] = await pubsub.handle_message(response)  # type: ignore[no-untyped-call]
        return message

    def _signal(self, message: dict[str, Any]) -> Signal | None:
        channel, data = message["channel"], message["data"]
        if message["type"] == "subscribe" and (waiting := self._confirmed.pop(channel, None)):
            waiting.set()
        if message["type"] != "message":
            return None
        if channel in self._wakes:
            return Due(self._wakes[channel], int(data))
        if channel in self._followed:
            return Changed(*self._followed[channel])
        return _unpack(data) if channel == self._own else None

    async def follow(self, project_id: str, task_id: str) -> None:
        """See `ports.SignalBus`. Raises `StoreUnavailable` while there is no connection."""
        channel = self._watch_channel(project_id, task_id)
        self._followers[channel] += 1
        try:
            # One at a time: an unsubscribe must not overtake the subscribe of a newcomer.
            async with self._changing:
                if channel not in self._followed:
                    await self._subscribe(channel, (project_id, task_id))
        except BaseException:
            self._forget(channel)
            raise

    async def _subscribe(self, channel: bytes, task: tuple[str, str]) -> None:
        if self._pubsub is None:
            raise StoreUnavailable("the store does not serve now (no connection for signals)")
        confirmed = self._confirmed[channel] = asyncio.Event()
        # Before the confirmation, so that a reconnection in between subscribes to it too.
        self._followed[channel] = task
        try:
            async with outages_mapped():
                await _send_beside_reader(self._pubsub, "SUBSCRIBE", channel)
                await confirmed.wait()
        except BaseException:
            del self._followed[channel]
            await self._unsubscribe(channel)
            raise
        finally:
            self._confirmed.pop(channel, None)

    async def unfollow(self, project_id: str, task_id: str) -> None:
        """See `ports.SignalBus`."""
        channel = self._watch_channel(project_id, task_id)
        self._forget(channel)
        async with self._changing:
            if channel in self._followed and channel not in self._followers:
                del self._followed[channel]
                await self._unsubscribe(channel)

    def _forget(self, channel: bytes) -> None:
        self._followers[channel] -= 1
        if not self._followers[channel]:
            del self._followers[channel]

    async def _unsubscribe(self, channel: bytes) -> None:
        if self._pubsub is not None:
            with contextlib.suppress(RedisError, OSError):
                # A connection that broke has forgotten the subscription anyway.
                await _send_beside_reader(self._pubsub, "UNSUBSCRIBE", channel)

    def _watch_channel(self, project_id: str, task_id: str) -> bytes:
        partition = keys.partition_of(project_id, self._partitions)
        return keys.watch_channel(partition, project_id, task_id).encode()

    async def send_revoke(self, instance: str, revoke: Revoke) -> None:
        """See `ports.SignalBus`."""
        await self._send(instance, {"revoke": _pack(revoke.lease), "reply_to": revoke.reply_to})

    async def send_revoked(self, instance: str, revoked: Revoked) -> None:
        """See `ports.SignalBus`."""
        await self._send(instance, {"revoked": _pack(revoked.lease)})

    async def _send(self, instance: str, message: dict[str, object]) -> None:
        async with outages_mapped():
            await self._client.publish(keys.instance_channel(instance), json.dumps(message))


async def _send_beside_reader(pubsub: PubSub, command: str, channel: bytes) -> None:
    """Send a command on the connection that `listen` reads.

    Not in the library's way: on an error that connects anew, under the feet of the reader, who is the
    one to do it.
    """
    connection: Any = pubsub.connection  # the library's types say that it is always None
    if connection is None or not connection.is_connected:
        raise RedisConnectionError("the connection for signals broke")
    await connection.send_command(command, channel)


def _pack(lease: Lease) -> list[str]:
    return [lease.project_id, lease.task_id, lease.token]


def _unpack(data: bytes) -> Signal | None:
    try:
        message = json.loads(data)
    except ValueError:
        return None  # of somebody who does not belong here
    match message:
        case {"revoke": [project_id, task_id, token], "reply_to": reply_to}:
            return Revoke(Lease(project_id, task_id, token), reply_to)
        case {"revoked": [project_id, task_id, token]}:
            return Revoked(Lease(project_id, task_id, token))
        case _:
            return None  # of a newer version
