"""Waiting for several things at once, in an order that every replay repeats."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any


def _futures(awaitables: tuple[Awaitable[Any], ...]) -> list[asyncio.Future[Any]]:
    loop = asyncio.get_running_loop()
    return [asyncio.ensure_future(each, loop=loop) for each in awaitables]  # noqa: TID251


async def wait_completed(
    *args: Awaitable[Any],
) -> tuple[list[asyncio.Future[Any]], list[asyncio.Future[Any]]]:
    """Wait until at least one is done: (those that are, those that are not), in the order given.

    Coroutines become tasks. Cancelling leaves all of them running.
    """
    futures = _futures(args)
    if not futures:
        return [], []
    if not any(future.done() for future in futures):
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    done = [future for future in futures if future.done()]
    return done, [future for future in futures if not future.done()]


async def gather(*futures: Awaitable[Any]) -> list[asyncio.Future[Any]]:
    """Wait until all are done and give them back as futures, whose results are to be awaited."""
    waited = _futures(futures)
    if waited:
        await asyncio.wait(waited)
    return waited


async def as_completed(*futures: Awaitable[Any]) -> AsyncIterator[asyncio.Future[Any]]:
    """Give the futures as they get done: ``async for future in as_completed(a, b)``."""
    waiting: list[asyncio.Future[Any]] = _futures(futures)
    while waiting:
        done, waiting = await wait_completed(*waiting)
        for future in done:
            yield future


async def select(**kws: Awaitable[Any]) -> list[Any]:
    """Wait for the first of several: ``name, value = await select(car=a, hotel=b)``.

    Raises what the first one raised, and ValueError when none is given.
    """
    if not kws:
        raise ValueError("select needs at least one thing to wait for")
    names = list(kws)
    futures = _futures(tuple(kws.values()))
    done, _waiting = await wait_completed(*futures)
    first = done[0]
    return [names[futures.index(first)], await first]
