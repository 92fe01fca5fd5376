"""The request that a handler answers, and the event that its attempt's end sets."""

import asyncio
import contextlib

import msgspec

from .attempt_base import AttemptBase
from .errors import ForbiddenCallError


class AttemptFinishedEvent:
    """Set when the attempt has ended: what a step began for it alone may be cleaned up."""

    __slots__ = ("_attempt",)

    def __init__(self, attempt: AttemptBase) -> None:
        """Watch one attempt; made by the SDK."""
        self._attempt = attempt

    def is_set(self) -> bool:
        """Whether the attempt has ended; for steps and threads, since it differs in a replay."""
        return self._attempt.ended

    async def wait(self) -> None:
        """Wait for the end, in a step. Raises ForbiddenCallError in the handler itself."""
        loop = asyncio.get_running_loop()
        if loop is self._attempt.loop:
            raise ForbiddenCallError(
                "a handler cannot wait for the end of its own attempt; wait in a step"
            )
        if not self._attempt.ended:
            waiter: asyncio.Future[None] = loop.create_future()
            self._attempt.when_ended(waiter)
            await waiter


def settle(waiter: "asyncio.Future[None]") -> None:
    """Resolve a future of a loop that may run in any thread, or be closed."""

    def resolve() -> None:
        if not waiter.done():
            waiter.set_result(None)

    with contextlib.suppress(RuntimeError):  # closed: nobody waits any more
        waiter.get_loop().call_soon_threadsafe(resolve)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The request that started the invocation.

    Attributes:
        id: the invocation's id as text.
        headers: as the caller sent them.
        attempt_headers: kept for compatibility; the worker session has none.
        body: as it was sent.
        attempt_finished_event: set when this attempt has ended.
        scope: kept for compatibility; None.
        limit_key: kept for compatibility; None.
        idempotency_key: what the caller gave, if anything.
    """

    id: str
    headers: dict[str, str]
    attempt_headers: dict[str, str] = {}
    body: bytes
    attempt_finished_event: AttemptFinishedEvent
    scope: str | None = None
    limit_key: str | None = None
    idempotency_key: str | None = None
