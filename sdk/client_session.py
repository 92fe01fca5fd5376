"""A session with a gRPC front door: many requests per message, repeated when a connection breaks.

Whatever is asked for in one turn of the event loop travels in one message. When the connection is
lost, requests that may be repeated go over the next one, each under the invocation id that it had;
the others fail, because nobody knows whether they were taken. The next connection is to the next
address at once; a pause comes when all have failed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from ..core.clock import Clock
from ..core.errors import PerdureError, TransportError
from ..core.random import Random
from ..core.retry import RetryPolicy
from ..core.tasks import TaskScope
from ..proto.generated import ingress_pb2 as wire
from .client_addresses import FrontDoorAddresses
from .client_types import HttpError, refusal_of, settle, unreachable

GIVE_UP_SECONDS_DEFAULT: Final = 30.0
OPEN_SECONDS_MAX: Final = 5.0
OPEN_SECONDS_FIRST: Final = 0.5
"""How long a door is waited for at first where there are others; twice as long in each round."""

BREAKS_MAX: Final = 10
"""After so many sessions that broke under a request, it may be the request that breaks them."""

BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
RECONNECT: Final = RetryPolicy(
    initial_interval_ns=20_000_000, interval_max_ns=1_000_000_000, attempts_max=None
)
HELD_NS: Final = 1_000_000_000
"""A session that was open for so long has worked."""
_UNAVAILABLE: Final = "UNAVAILABLE"


class RequestStream(Protocol):
    """One stream of the Session call."""

    async def write(self, requests: wire.SessionRequests) -> None:
        """Send a message. Raises TransportError when the connection is lost."""
        ...

    async def read(self) -> wire.SessionResponses:
        """The next message.

        Raises TransportError when the connection is lost or ends, HttpError when the other side
        will not have this client.
        """
        ...

    def close(self) -> None:
        """Give the stream up; what waits for it ends."""
        ...


OpenStream = Callable[[str], Awaitable[RequestStream]]
"""Opens a stream to the front door at an address. Raises what `RequestStream.read` raises."""


class _Pending:
    """A request that has no answer yet."""

    __slots__ = (
        "breaks",
        "failing_since_ns",
        "failures",
        "repeatable",
        "request",
        "sent",
        "waiter",
    )

    def __init__(
        self,
        request: wire.SessionRequest,
        repeatable: bool,
        waiter: "asyncio.Future[wire.SessionResponse]",
    ) -> None:
        self.request = request
        self.repeatable = repeatable
        self.waiter = waiter
        self.failures = 0
        self.sent = False  # over a connection that was lost before there was an answer
        self.failing_since_ns: int | None = None
        self.breaks = 0  # of sessions that had it under way, each before it had lasted


class SessionRequests:
    """Requests over one session, which is opened when there are some and again when it breaks."""

    def __init__(
        self,
        open_stream: OpenStream,
        addresses: Sequence[str],
        *,
        clock: Clock,
        random: Random,
        retry: RetryPolicy = RECONNECT,
        give_up_seconds: float = GIVE_UP_SECONDS_DEFAULT,
        open_seconds_max: float = OPEN_SECONDS_MAX,
    ) -> None:
        """Take the way to front doors, and where those are that are known from the start.

        A request that has been failing for `give_up_seconds` fails for good. That a session is
        opened ends its failing, unless `BREAKS_MAX` of them have broken under it already, none of
        which had lasted that long. A door that does not say within `open_seconds_max` that the
        session is open counts as lost; where there are others, sooner at first. `retry` says how
        long to wait when all have failed.
        """
        self._open_stream = open_stream
        self._addresses = FrontDoorAddresses(addresses)
        self._clock = clock
        self._random = random
        self._retry = retry
        self._open_seconds_max = open_seconds_max
        self._give_up_ns = int(give_up_seconds * 1e9)
        self._pending: dict[int, _Pending] = {}
        self._unsent: deque[int] = deque()
        self._in_flight: set[int] = set()
        self._in_flight_max = 1
        self._last_id = 0
        self._wake = asyncio.Event()
        self._never = asyncio.Event()
        self._ended: HttpError | None = None
        self._opened_at_ns: int | None = None
        self._rounds = 0  # of all doors, since one opened a session

    async def request(
        self, request: wire.SessionRequest, *, repeatable: bool
    ) -> wire.SessionResponse:
        """The answer to a request. Raises HttpError. Cancelling is safe: only the wait ends."""
        if self._ended is not None:
            raise self._ended
        waiter: asyncio.Future[wire.SessionResponse] = asyncio.get_running_loop().create_future()
        self._last_id += 1
        number = request.id = self._last_id
        self._pending[number] = _Pending(request, repeatable, waiter)
        self._queue(number)
        try:
            return await waiter
        finally:
            # Of one that was cancelled the number stays queued, and its answer finds nobody.
            del self._pending[number]

    async def run(self) -> None:
        """Serve requests until cancelled; those that wait then fail."""
        refusal: HttpError | None = None  # the last one of a door that opened no session
        try:
            while True:
                while not self._pending:
                    self._wake.clear()
                    await self._wake.wait()
                self._opened_at_ns = None
                refused = False
                try:
                    await self._session()
                except HttpError as error:
                    if self._opened_at_ns is not None:
                        self._fail_all(error)
                    else:
                        refusal, refused = error, True
                        self._lost(TransportError(error.message))
                except PerdureError as error:
                    self._lost(error)
                if self._opened_at_ns is not None:
                    self._rounds = 0
                    lasted_ns = self._clock.monotonic_ns() - self._opened_at_ns
                    # Doors that open and break at once get no more tries than those that are shut.
                    if lasted_ns >= HELD_NS:
                        self._addresses.held()
                if self._addresses.failed(refused=refused):
                    if refusal is not None and self._addresses.refused_everywhere:
                        # Repeating mends nothing.
                        self._fail_all(refusal)
                    self._rounds += 1
                    await self._pause(self._retry.delay_ns(self._rounds, self._random))
        finally:
            names = ", ".join(self._addresses.given)
            self._ended = refusal_of("CANCELLED", "", f"the client of {names} is closed")
            self._fail_all(self._ended)

    async def _session(self) -> None:
        stream = await self._open_stream(self._addresses.current)
        try:
            self._opened(await self._first(stream))
            await self._serve(stream)
        finally:
            stream.close()

    async def _first(self, stream: RequestStream) -> wire.SessionResponses:
        seconds = self._open_seconds_max
        if len(self._addresses.all) > 1:
            # A machine that is gone says nothing, and another one may answer at once.
            seconds = min(seconds, OPEN_SECONDS_FIRST * 2 ** min(self._rounds, 16))
        try:
            async with asyncio.timeout(seconds):
                return await stream.read()
        except TimeoutError:
            raise TransportError(
                f"nobody opens a session within {seconds:g} seconds; is this the "
                "address of a gRPC front door?"
            ) from None

    async def _serve(self, stream: RequestStream) -> None:
        async with TaskScope("client session") as scope:
            scope.spawn(self._write_all(stream), name="write")
            while True:
                responses = await stream.read()
                if responses.HasField("front_doors"):
                    self._addresses.told(responses.front_doors)
                self._take(responses)

    async def _write_all(self, stream: RequestStream) -> None:
        while True:
            batch = self._batch()
            if batch is None:
                self._wake.clear()
                await self._wake.wait()
            else:
                await stream.write(batch)

    async def _pause(self, duration_ns: int | None) -> None:
        try:
            async with asyncio.timeout((duration_ns or 0) / 1e9):
                await self._never.wait()
        except TimeoutError:
            pass

    def _queue(self, number: int) -> None:
        self._unsent.append(number)
        self._wake.set()

    def _batch(self) -> wire.SessionRequests | None:
        batch: list[wire.SessionRequest] = []
        size = 0
        unsent = self._unsent
        while unsent and len(self._in_flight) < self._in_flight_max:
            pending = self._pending.get(unsent[0])
            if pending is not None:
                size += pending.request.ByteSize()
                if batch and size > BATCH_BYTES_MAX:
                    break
                self._in_flight.add(unsent[0])
                batch.append(pending.request)
            unsent.popleft()
        return wire.SessionRequests(requests=batch) if batch else None

    # What the stream tells

    def _opened(self, first: wire.SessionResponses) -> None:
        told = first.front_doors if first.HasField("front_doors") else None
        self._addresses.opened(told)
        self._opened_at_ns = self._clock.monotonic_ns()
        self._in_flight_max = max(first.opened.in_flight_max, 1)
        for pending in self._pending.values():
            if pending.breaks < BREAKS_MAX:
                pending.failing_since_ns = None
        self._take(first)

    def _take(self, responses: wire.SessionResponses) -> None:
        for response in responses.responses:
            number = response.id
            if number not in self._in_flight:
                continue
            self._in_flight.remove(number)
            pending = self._pending.get(number)
            if pending is None or pending.waiter.done():
                continue
            if response.HasField("error") and response.error.status == _UNAVAILABLE:
                self._unavailable(number, pending, response)
            else:
                pending.waiter.set_result(response)
        self._wake.set()

    def _unavailable(self, number: int, pending: _Pending, response: wire.SessionResponse) -> None:
        # One partition has no leader just now; the others go on meanwhile.
        if not pending.repeatable or self._gives_up(pending):
            pending.waiter.set_result(response)
            return
        pending.failures += 1
        delay_ns = self._retry.delay_ns(pending.failures, self._random) or 0
        asyncio.get_running_loop().call_later(delay_ns / 1e9, self._queue, number)

    def _lost(self, error: PerdureError) -> None:
        """The stream broke, or was not to be opened: which requests go over the next one?"""
        again: list[int] = []
        address, count = self._addresses.current, len(self._addresses.all)
        opened_at_ns = self._opened_at_ns
        lasted_ns = 0 if opened_at_ns is None else self._clock.monotonic_ns() - opened_at_ns
        for number, pending in self._pending.items():
            sent = number in self._in_flight
            pending.sent = pending.sent or sent
            if sent and lasted_ns >= self._give_up_ns:
                pending.breaks, pending.failing_since_ns = 0, None
            elif sent:
                pending.breaks += 1
            if self._gives_up(pending) or (sent and not pending.repeatable):
                where = address if sent or count == 1 else f"{address}, the last of {count} tried"
                settle(pending.waiter, unreachable(where, error, pending.sent))
            elif sent:
                again.append(number)
        self._in_flight.clear()
        self._unsent.extendleft(reversed(again))

    def _gives_up(self, pending: _Pending) -> bool:
        now_ns = self._clock.monotonic_ns()
        if pending.failing_since_ns is None:
            pending.failing_since_ns = now_ns
        return now_ns - pending.failing_since_ns >= self._give_up_ns

    def _fail_all(self, error: HttpError) -> None:
        for pending in self._pending.values():
            settle(pending.waiter, error)
        self._in_flight.clear()
        self._unsent.clear()
