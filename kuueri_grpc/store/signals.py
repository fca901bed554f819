"""The `SignalBus` port, on publish and subscribe: one connection per process."""

import asyncio
import json
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from kuueri_grpc.domain.errors import StoreUnavailable
from kuueri_grpc.ports import (
    NO_TELEMETRY,
    Changed,
    CredentialsChanged,
    Disconnected,
    Due,
    Lease,
    Reconnected,
    Revoke,
    Revoked,
    Signal,
    Spent,
    Telemetry,
)
from kuueri_grpc.store import keys
from kuueri_grpc.store.cluster_signals import SignalClient
from kuueri_grpc.store.errors import OUTAGES, kind_of, outages_mapped
from kuueri_grpc.store.observer import StoreObserver

_log = logging.getLogger(__name__)

#: How long the store may take to confirm a subscription, or that it has passed a message on.
_CONFIRMATION_S = 3.0
#: A connection that was silent for so long is asked for a sign of life, and given up after as long again.
_SILENCE_S = 5.0
_BACKOFF_S = (0.05, 0.1, 0.2, 0.5)


class _Followed:
    """What is subscribed to, as somebody follows it. `pending`: is set when it is in force; None: it is."""

    __slots__ = ("change", "followers", "pending")

    def __init__(self, change: Changed) -> None:
        self.change = change
        self.followers = 0
        self.pending: asyncio.Event | None = asyncio.Event()


class RedisSignalBus:
    """`ports.SignalBus`. `listen` owns the connection; `follow` and `unfollow` change what it hears.

    `observer`: told of each message that is sent and of each subscription. That the connection itself is
    there, or is not, goes to `telemetry`.
    """

    def __init__(
        self,
        client: SignalClient,
        partitions: int,
        instance: str,
        telemetry: Telemetry = NO_TELEMETRY,
        observer: StoreObserver | None = None,
    ) -> None:
        self._client = client
        self._telemetry = telemetry
        self._observer = observer or StoreObserver(telemetry)
        self._partitions = partitions
        self._instance = instance
        self._own = keys.instance_channel(instance).encode()
        self._credentials = keys.CREDENTIALS_CHANNEL.encode()
        self._spent = keys.SPENT_CHANNEL.encode()
        self._wakes = {keys.wake_channel(p).encode(): p for p in range(partitions)}
        self._followed: dict[bytes, _Followed] = {}
        #: How often each channel was asked for on this connection, and not confirmed yet. Answers come in
        #: the order of what was asked, also to those who have gone meanwhile.
        self._unconfirmed: Counter[bytes] = Counter()
        self._pubsub: PubSub | None = None
        self._lost_at: float | None = None

    async def listen(self) -> AsyncIterator[Signal]:
        """See `ports.SignalBus`."""
        failures = 0
        while True:
            try:
                async with self._client.pubsub() as pubsub:
                    early = await self._subscribe_all(pubsub)
                    self._pubsub = pubsub
                    try:
                        self._found()
                        failures = 0
                        yield Reconnected()
                        for signal in early:
                            yield signal
                        while True:
                            heard = self._signal(await self._message(pubsub))
                            if heard is not None:
                                yield heard
                    finally:
                        # Before it is closed, so that nobody subscribes on it any more.
                        self._pubsub = None
            except OUTAGES as error:
                if begun := self._lost(error):
                    yield begun
                wait = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                failures += 1
                # Spread out, so that a store coming back is not met by everybody at once.
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret

    async def reconnect(self) -> None:
        """See `ports.SignalBus`."""
        if self._pubsub is not None and (connection := _connection(self._pubsub)) is not None:
            # What `listen` waits for ends with the connection.
            await connection.disconnect(nowait=True)

    def _found(self) -> None:
        self._telemetry.signals_connected()
        if self._lost_at is not None:
            seconds = round(time.monotonic() - self._lost_at, 3)
            _log.warning(
                "signals arrive again after %.1f s; everything is looked at anew",
                seconds,
                extra={"event": "signals_restored", "seconds": seconds},
            )
        self._lost_at = None

    def _lost(self, error: BaseException) -> Disconnected | None:
        """Return what to tell when an interruption begins, None while it lasts."""
        if self._lost_at is not None:
            return None
        self._lost_at = time.monotonic()
        why = f"{kind_of(error)}: {error}"
        _log.warning(
            "signals are interrupted (%s); what others do is learned of late until they return",
            why,
            extra={"event": "signals_lost"},
        )
        return Disconnected(why)

    async def _subscribe_all(self, pubsub: PubSub) -> list[Signal]:
        """Return when every subscription is in force, with the signals that came in between.

        Only then is it safe to look at the store: what changes after the look is signalled.
        """
        followed = set(self._followed)
        channels = {self._own, self._credentials, self._spent, *self._wakes, *followed}
        self._unconfirmed = Counter(channels)
        async with asyncio.timeout(_CONFIRMATION_S):
            # Connects, too.
            await pubsub.subscribe(*channels)
        early = []
        while self._unconfirmed:
            if (signal := self._signal(await self._message(pubsub))) is not None:
                early.append(signal)
        for channel in followed - self._followed.keys():
            _send_beside_reader(pubsub, "UNSUBSCRIBE", channel)  # of who left meanwhile
        return early

    async def _message(self, pubsub: PubSub) -> dict[str, Any]:
        """Return the next message, however long it takes. Raises TimeoutError: there is no sign of life."""
        asked = False
        while True:
            connection = _connection(pubsub)
            if connection is None or not connection.is_connected:
                # The library would connect again, and nobody would know that signals were missed.
                raise RedisConnectionError("the connection was closed")
            response = await pubsub.parse_response(block=False, timeout=_SILENCE_S)
            if response is None:
                if asked:
                    raise TimeoutError(f"no answer to a PING within {_SILENCE_S:g} s")
                await pubsub.ping()
                asked = True
                continue
            asked = False
            # The library leaves this method without types.
            message: dict[str, Any] = await pubsub.handle_message(response)  # type: ignore[no-untyped-call]
            if message["type"] != "pong":
                return message

    def _signal(self, message: dict[str, Any]) -> Signal | None:
        channel, data = message["channel"], message["data"]
        if message["type"] == "subscribe":
            self._confirm(channel)
        if message["type"] != "message":
            return None
        if channel in self._wakes:
            return Due(self._wakes[channel], int(data))
        if channel in self._followed:
            return self._followed[channel].change
        if channel == self._credentials:
            return CredentialsChanged(data.decode())
        if channel == self._spent:
            return _unpack_spent(data, self._instance)
        return _unpack(data) if channel == self._own else None

    def _confirm(self, channel: bytes) -> None:
        self._unconfirmed[channel] -= 1
        if self._unconfirmed[channel] > 0:
            return
        del self._unconfirmed[channel]
        followed = self._followed.get(channel)
        if followed is not None and followed.pending is not None:
            followed.pending.set()
            followed.pending = None

    async def follow(self, project_id: str, task_id: str | None) -> None:
        """See `ports.SignalBus`. Raises `StoreUnavailable` while there is no connection."""
        channel = self._channel(project_id, task_id)
        followed = self._followed.get(channel)
        if followed is not None:
            with outages_mapped():
                await self._join(channel, followed)
        else:
            with self._observer.call("follow"):
                await self._join(channel, self._subscribe(channel, Changed(project_id, task_id)))

    def _subscribe(self, channel: bytes, change: Changed) -> _Followed:
        if self._pubsub is None:
            raise StoreUnavailable("the store does not serve now: there is no connection for signals")
        if not _send_beside_reader(self._pubsub, "SUBSCRIBE", channel):
            raise RedisConnectionError("the connection for signals broke")
        self._unconfirmed[channel] += 1
        # Before the confirmation, so that a reconnection in between subscribes to it too.
        followed = self._followed[channel] = _Followed(change)
        return followed

    async def _join(self, channel: bytes, followed: _Followed) -> None:
        followed.followers += 1
        try:
            if followed.pending is not None:
                async with asyncio.timeout(_CONFIRMATION_S):
                    await followed.pending.wait()
        except BaseException:
            self._leave(channel, followed)
            raise

    def unfollow(self, project_id: str, task_id: str | None) -> None:
        """See `ports.SignalBus`."""
        channel = self._channel(project_id, task_id)
        self._leave(channel, self._followed[channel])

    def _leave(self, channel: bytes, followed: _Followed) -> None:
        followed.followers -= 1
        if not followed.followers:
            del self._followed[channel]
            if self._pubsub is not None:
                # A connection that broke has forgotten the subscription anyway.
                _send_beside_reader(self._pubsub, "UNSUBSCRIBE", channel)

    def _channel(self, project_id: str, task_id: str | None) -> bytes:
        partition = keys.partition_of(project_id, self._partitions)
        if task_id is None:
            return keys.news_channel(partition, project_id).encode()
        return keys.watch_channel(partition, project_id, task_id).encode()

    async def send_revoke(self, instance: str, revoke: Revoke) -> None:
        """See `ports.SignalBus`."""
        message: dict[str, object] = {"revoke": _pack(revoke.lease), "reply_to": revoke.reply_to}
        await self._send(keys.instance_channel(instance), message)

    async def send_revoked(self, instance: str, revoked: Revoked) -> None:
        """See `ports.SignalBus`."""
        await self._send(keys.instance_channel(instance), {"revoked": _pack(revoked.lease)})

    async def send_spent(self, spent: Spent) -> None:
        """See `ports.SignalBus`."""
        await self._send(keys.SPENT_CHANNEL, {"by": self._instance, "spent": dict(spent.calls)})

    async def _send(self, channel: str, message: dict[str, object]) -> None:
        with self._observer.call("publish"):
            async with asyncio.timeout(_CONFIRMATION_S):
                await self._client.publish(channel, json.dumps(message))


def _connection(pubsub: PubSub) -> AbstractConnection | None:
    # The library's types have it that there never is one.
    connection: Any = pubsub.connection
    return connection if isinstance(connection, AbstractConnection) else None


def _send_beside_reader(pubsub: PubSub, command: str, channel: bytes) -> bool:
    """Send a command on the connection that `listen` reads; return whether there is one.

    Not in the library's way: that takes a moment, in which whoever asks may be cancelled, and closes the
    connection then; and on an error it connects anew, under the feet of the reader, who is the one to do it.
    """
    connection: Any = _connection(pubsub)
    writer: asyncio.StreamWriter | None = None if connection is None else connection._writer  # noqa: SLF001
    if writer is None or writer.is_closing():
        return False
    # What waits to be sent is little: a command for each call that is under way.
    writer.writelines(connection.pack_command(command, channel))
    return True


def _pack(lease: Lease) -> list[str]:
    return [lease.project_id, lease.task_id, lease.token]


def _unpack_spent(data: bytes, here: str) -> Spent | None:
    """Return what another instance says; None for what is from here, or from somebody else."""
    try:
        message = json.loads(data)
    except ValueError:
        return None
    match message:
        case {"by": str() as by, "spent": dict() as calls} if by != here:
            return Spent({project: count for project, count in calls.items() if type(count) is int})
    return None


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
