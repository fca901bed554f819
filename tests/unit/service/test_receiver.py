"""Messages are received within bounds; calls beyond them wait in order, and callers have room each."""

import asyncio
from typing import Any, cast

import grpc.aio
import pytest

from kuueri_grpc.service.message_errors import MessageLate, MessageTooLarge
from kuueri_grpc.service.receiver import ReceiveLimits, Receiver
from kuueri_grpc.service.violations import InvalidFields

LIMITS = ReceiveLimits(messages=3, per_caller=2, guaranteed=1, held_bytes=300, caller_bytes=200)
LONG_S = 60.0


class Call:
    """The context of a call: its message is there once it was sent."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._message: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def read(self) -> object:
        self.asked.set()
        return await self._message

    def send(self, message: object) -> None:
        self._message.set_result(message)


class Calls:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def begin(self, caller: str, limit: int = 1_000) -> "tuple[Call, asyncio.Task[bytes]]":
        call = Call()
        return call, asyncio.create_task(self._receiver.receive(cast("Any", call), caller, limit))


@pytest.fixture
async def receiver() -> Receiver:
    return Receiver(LIMITS, LONG_S)


@pytest.fixture
async def calls(receiver: Receiver) -> Calls:
    return Calls(receiver)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def asked(*begun: tuple[Call, Any]) -> list[bool]:
    await settle()
    return [call.asked.is_set() for call, _ in begun]


async def test_a_message_counts_until_it_is_released(receiver: Receiver, calls: Calls) -> None:
    call, message = calls.begin("a")
    call.send(b"x" * 100)
    assert await message == b"x" * 100
    assert receiver.held_bytes == 100
    receiver.release("a", 100)
    assert receiver.held_bytes == 0


async def test_a_caller_receives_so_many_at_once_and_the_others_in_order(calls: Calls) -> None:
    begun = [calls.begin("a") for _ in range(4)]
    assert await asked(*begun) == [True, True, False, False]
    begun[1][0].send(b"")
    assert await asked(*begun) == [True, True, True, False]
    begun[0][0].send(b"")
    assert await asked(*begun) == [True, True, True, True]


async def test_each_caller_receives_one_whatever_others_do(calls: Calls) -> None:
    others = [calls.begin(caller) for caller in "aabbcc"]
    assert await asked(*others) == [True, True, True, False, True, False]
    begun = [calls.begin("d"), calls.begin("d")]
    assert await asked(*begun) == [True, False]


async def test_who_waits_for_the_process_has_its_turn_before_who_has_had_one(calls: Calls) -> None:
    a = [calls.begin("a") for _ in range(3)]
    b = [calls.begin("b") for _ in range(2)]
    assert await asked(*a, *b) == [True, True, False, True, False]
    a[0][0].send(b"")
    assert await asked(*a, *b) == [True, True, False, True, True]


async def test_a_caller_with_too_many_bytes_receives_no_more(receiver: Receiver, calls: Calls) -> None:
    call, message = calls.begin("a")
    call.send(b"x" * 200)
    await message
    mine, other = calls.begin("a"), calls.begin("b")
    assert await asked(mine, other) == [False, True]
    receiver.release("a", 200)
    assert await asked(mine) == [True]


async def test_a_message_over_the_limit_is_not_held(receiver: Receiver, calls: Calls) -> None:
    call, message = calls.begin("a", limit=10)
    call.send(b"x" * 11)
    with pytest.raises(MessageTooLarge):
        await message
    assert receiver.held_bytes == 0


async def test_a_call_without_a_message_is_refused(calls: Calls) -> None:
    call, message = calls.begin("a")
    call.send(grpc.aio.EOF)
    with pytest.raises(InvalidFields, match="request is missing"):
        await message


async def test_a_message_that_does_not_come_makes_room(calls: Calls) -> None:
    receiver = Receiver(LIMITS, 0.01)
    begun = [Calls(receiver).begin("a") for _ in range(3)]
    for _, message in begun:
        with pytest.raises(MessageLate):
            await message
    call, message = Calls(receiver).begin("a")
    call.send(b"x")
    assert await message == b"x"


@pytest.mark.parametrize("gone", [0, 2, 3])
async def test_a_call_that_is_cancelled_makes_room(calls: Calls, gone: int) -> None:
    begun = [calls.begin("a") for _ in range(4)]
    await settle()
    begun[gone][1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun[gone][1]
    for i, (call, message) in enumerate(begun):
        if i != gone:
            call.send(b"x")
            assert await message == b"x"
