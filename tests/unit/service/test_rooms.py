"""Few of the messages that were received are parsed and handled at once, and callers have room each."""

import asyncio

import pytest

from kuueri_grpc.service.rooms import Rooms


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class TestRooms:
    async def test_a_caller_waits_for_itself_and_others_do_not(self) -> None:
        rooms = Rooms(process_bytes=300, caller_bytes=100)
        await rooms.take("greedy", 60)
        more = [asyncio.create_task(rooms.take("greedy", 60)) for _ in range(50)]
        await _settle()
        assert not any(task.done() for task in more)
        await asyncio.wait_for(rooms.take("neighbour", 60), 1)
        for i in range(50):
            rooms.give("greedy", 60)
            await _settle()
            assert [task.done() for task in more] == [True] * (i + 1) + [False] * (49 - i)

    async def test_the_process_is_bounded_and_callers_take_turns(self) -> None:
        rooms = Rooms(process_bytes=100, caller_bytes=60)
        await rooms.take("a", 60)
        b, c = asyncio.create_task(rooms.take("b", 60)), asyncio.create_task(rooms.take("c", 30))
        await _settle()
        assert not b.done()
        assert not c.done(), "nobody is passed by: what is large would wait for ever"
        rooms.give("a", 60)
        await asyncio.wait_for(asyncio.gather(b, c), 1)

    async def test_what_is_larger_than_the_room_has_it_alone(self) -> None:
        rooms = Rooms(process_bytes=100, caller_bytes=50)
        await asyncio.wait_for(rooms.take("a", 500), 1)
        other = asyncio.create_task(rooms.take("b", 1))
        await _settle()
        assert not other.done()
        rooms.give("a", 500)
        await asyncio.wait_for(other, 1)

    @pytest.mark.parametrize("granted", [False, True])
    async def test_a_call_that_ends_while_it_waits_holds_nothing(self, *, granted: bool) -> None:
        rooms = Rooms(process_bytes=100, caller_bytes=100)
        await rooms.take("a", 80)
        gone, following = (asyncio.create_task(rooms.take(name, 80)) for name in ("a", "b"))
        await _settle()
        if granted:
            rooms.give("a", 80)
        gone.cancel()
        if not granted:
            await _settle()
            assert not following.done()
            rooms.give("a", 80)
        await asyncio.wait_for(following, 1)
        with pytest.raises(asyncio.CancelledError):
            await gone
        rooms.give("b", 80)
        await asyncio.wait_for(rooms.take("a", 100), 1)
