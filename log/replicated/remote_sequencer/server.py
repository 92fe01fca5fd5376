"""A node as the sequencer of loglets that others append to: serves their connections.

A machine: what arrives is enqueued at once, all of a turn in one batch as at home; what is
committed is told at the end of the turn. A loglet belongs to the connection that opened it first.
"""

import logging
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from ....core.errors import MalformedMessageError, PerdureError
from ....core.net.peers import Introduction
from ....core.net.transport import Connection
from ...chain import Segment
from ...types import BATCH_RECORDS_MAX, Batch
from ..channel import Channel
from ..loglet import ReplicatedLoglet
from .messages import Asked, Enqueue, Open, Ordered, Refused, Told, decode_asked, encode, size_of

LOGLETS_MAX: Final = 100_000
"""Loglets that one connection may have open at a time."""

_LOG: Final = logging.getLogger(__name__)


class SequencerLimits(msgspec.Struct, frozen=True):
    """What a node orders for others at a time; bytes of records of one loglet not committed."""

    bytes_in_flight_max: int = 64 * 1024 * 1024


class Sequencers(Protocol):
    """What finds the loglets whose sequencer is this process."""

    def sequencer_of(self, segment: Segment) -> ReplicatedLoglet:
        """The loglet of a segment that names this node in this life. Raises LogError."""
        ...


class _Written:
    """One loglet that is written over a connection."""

    __slots__ = ("bytes", "channel", "loglet", "ordered", "sizes")

    def __init__(self, loglet: ReplicatedLoglet, channel: Channel[Told]) -> None:
        self.loglet = loglet
        self.channel = channel
        # Of what is not committed: (last offset, bytes).
        self.sizes: deque[tuple[int, int]] = deque()
        self.bytes = 0
        # Committed in this turn.
        self.ordered: list[tuple[int, int]] = []


class SequencerServer:
    """Gives out offsets for other nodes. Everything here runs on the event loop's thread."""

    def __init__(
        self,
        sequencers: Sequencers,
        *,
        loop: AbstractEventLoop,
        limits: SequencerLimits | None = None,
    ) -> None:
        """Order what `sequencers` finds."""
        self._sequencers = sequencers
        self._loop = loop
        self._limits = limits or SequencerLimits()
        self._written: dict[int, _Written] = {}

    async def serve(self, them: Introduction, connection: Connection) -> None:
        """Serve a connection of another node until it ends. Cancelling ends it."""
        channel: Channel[Told] = Channel(connection.send, encode, self._loop)
        try:
            while (message := await connection.receive()) is not None:
                try:
                    items = decode_asked(message)
                    for item in items:
                        self._handle(channel, item)
                except MalformedMessageError as error:
                    _LOG.warning("node %s is let go: %s", them.node, error)
                    return
        finally:
            channel.close()
            for number, written in list(self._written.items()):
                if written.channel is channel:
                    # Whoever leads the log by then ends it.
                    del self._written[number]

    def _handle(self, channel: Channel[Told], item: Asked) -> None:
        """Raises MalformedMessageError."""
        if isinstance(item, Open):
            self._open(channel, item.segment)
            return
        for group in item.groups:
            if not 1 <= len(group) <= BATCH_RECORDS_MAX:
                raise MalformedMessageError(f"a group of {len(group)} records")
        written = self._written.get(item.loglet)
        if written is not None and written.channel is channel:
            self._enqueue(written, item)
        # Otherwise it was refused before, and that is on its way.

    def _open(self, channel: Channel[Told], segment: Segment) -> None:
        number = segment.params.loglet
        placement = segment.params.placement
        if placement is None or placement.problem():
            raise MalformedMessageError(f"segment {segment.index} is not on log-servers")
        if number in self._written or len(self._written) >= LOGLETS_MAX:
            channel.send(Refused(number, "somebody appends to it already, or to too many"))
            return
        try:
            loglet = self._sequencers.sequencer_of(segment)
        except PerdureError as error:
            channel.send(Refused(number, str(error)))
            return
        if loglet.next_offset != 1:
            channel.send(Refused(number, "it is not empty: whoever wrote to it is gone"))
            return
        written = self._written[number] = _Written(loglet, channel)
        loglet.listen(self._listener(written), self._on_sealed(written))

    def _enqueue(self, written: _Written, item: Enqueue) -> None:
        loglet = written.loglet
        size = size_of(item)
        if item.first_offset != loglet.next_offset:
            self._refuse(written, f"the next offset is {loglet.next_offset}")
        elif written.bytes and written.bytes + size > self._limits.bytes_in_flight_max:
            self._refuse(written, f"{written.bytes} bytes are under way already")
        else:
            try:
                for group in item.groups:
                    loglet.enqueue(group)
            except PerdureError as error:
                self._refuse(written, str(error))
                return
            written.sizes.append((loglet.next_offset - 1, size))
            written.bytes += size

    def _refuse(self, written: _Written, reason: str) -> None:
        if self._written.pop(written.loglet.loglet, None) is not None:
            written.channel.send(Refused(written.loglet.loglet, reason))

    def _listener(self, written: _Written) -> Callable[[Batch], None]:
        def committed(batch: Batch) -> None:
            if not written.ordered:
                self._loop.call_soon(tell)
            written.ordered.append((batch.last_offset, batch.record_time_ns))
            sizes = written.sizes
            while sizes and sizes[0][0] <= batch.last_offset:
                written.bytes -= sizes.popleft()[1]

        def tell() -> None:
            ordered, written.ordered = written.ordered, []
            written.channel.send(Ordered(written.loglet.loglet, ordered))

        return committed

    def _on_sealed(self, written: _Written) -> Callable[[], None]:
        return lambda: self._refuse(written, "it is sealed")
