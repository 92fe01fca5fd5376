"""One request to the dispatcher, and the wait for what it comes to."""

import asyncio
from functools import partial
from typing import Any

from ..dispatcher import Dispatcher
from ..requests import Rejected
from .translation import KINDS, Reply


async def ask(dispatcher: Dispatcher, name: str, request: Any, traceparent: str | None) -> Reply:
    """The reply to a request of the kind of that name, one of `KINDS`.

    Raises PerdureError for what is refused. Cancelling is safe: the wait ends, what the request
    started goes on.
    """
    waiter: asyncio.Future[Reply | Rejected] = asyncio.get_running_loop().create_future()
    pending = KINDS[name].begin(dispatcher, request, traceparent, partial(_settle, waiter))
    try:
        reply = await waiter
    except asyncio.CancelledError:
        if pending is not None:
            pending.forget()
        raise
    if isinstance(reply, Rejected):
        raise reply.error
    return reply


def _settle(waiter: "asyncio.Future[Reply | Rejected]", reply: Reply | Rejected) -> None:
    if not waiter.done():
        waiter.set_result(reply)
