"""Waiting for an event: who is woken, who gives up, and what is left behind."""

import asyncio

from perdure.core.waiters import Waiters


def test_whoever_waits_knows_whether_something_happened() -> None:
    async def scenario() -> None:
        waiters = Waiters()
        patient = asyncio.ensure_future(waiters.wait())
        hasty = asyncio.ensure_future(waiters.wait(0))

        assert await hasty is False

        waiters.wake()

        assert await patient is True

    asyncio.run(scenario())


def test_a_wait_that_is_cancelled_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        waiters = Waiters()
        waiting = asyncio.ensure_future(waiters.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])

        assert waiters._waiting == []

    asyncio.run(scenario())
