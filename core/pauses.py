"""Waiting on the loop that was injected, and not on whichever one runs."""

from asyncio import AbstractEventLoop, Future

from .waiters import settle


async def pause(loop: AbstractEventLoop, seconds: float) -> None:
    """Let some time pass. Cancelling is safe."""
    waited: Future[None] = loop.create_future()
    timer = loop.call_later(seconds, settle, waited)
    try:
        await waited
    finally:
        timer.cancel()


async def next_turn(loop: AbstractEventLoop) -> None:
    """Let everything that is ready run once. Cancelling is safe."""
    turn: Future[None] = loop.create_future()
    loop.call_soon(settle, turn)
    await turn
