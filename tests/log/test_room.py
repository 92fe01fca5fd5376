"""Room: who waits for it gets it in turn."""

import asyncio

from perdure.log.room import Room

from .support import turns


def test_room_that_somebody_cancelled_was_called_for_goes_to_the_next() -> None:
    async def scenario() -> None:
        room = Room(asyncio.get_running_loop(), records_max=1, bytes_max=10)
        await room.take(1, 1)
        first, second = (asyncio.ensure_future(room.take(1, 1)) for _ in range(2))
        await turns()
        room.give_back(1, 1)
        # Called already, and cancelled before it could take anything.
        first.cancel()
        await turns()

        assert second.done()
        assert room.records == 1

    asyncio.run(asyncio.wait_for(scenario(), 60))
