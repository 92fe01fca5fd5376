"""The replicator: sends a sequencer's batches to the log-servers and tells which are committed.

A machine: events come from the loglet (`add`) and from the clients' connections; it sends at once
and tells of commits by a callback. Every member gets every batch, in order, on one connection; a
batch is committed when a write quorum has it and everything before it. A member that was away, or
cannot keep up, goes on at the committed tail: what it missed is committed elsewhere, which the
known tail in each batch's message tells it.
"""

from asyncio import AbstractEventLoop, TimerHandle
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from ..batch_codec import encode_batch
from ..types import Batch
from .members import Members
from .messages import GONE, LOST, SEALED, WRONG_SEQUENCER, Release, Store

WINDOW_BYTES_MAX: Final = 16 * 1024 * 1024
"""So much is under way to one member; more waits for its acknowledgements."""

PAUSE_SECONDS: Final = (0.01, 1.0)
"""How long a member that refused a batch is left alone, at first and at most."""


class _Staged(msgspec.Struct, gc=False):
    """A batch that is not committed yet."""

    batch: Batch
    value: bytes


class Replicator:
    """Batches of one sequencer, from their making to their commit.

    Attributes:
        committed_tail: the first offset that is not committed.
    """

    def __init__(
        self,
        loglet: int,
        members: Members,
        *,
        sequencer: str,
        loop: AbstractEventLoop,
        on_commit: Callable[[list[Batch]], None],
        on_sealed: Callable[[], None],
    ) -> None:
        """Begin with an empty loglet.

        Args:
            sequencer: node and generation, told to the servers.
            on_commit: told of the batches that a reply has committed, in order.
            on_sealed: told, perhaps several times, that a server takes nothing more.
        """
        self.loglet = loglet
        self.committed_tail = 1
        self.sequencer = sequencer
        self._members = members
        self._on_commit = on_commit
        self._on_sealed = on_sealed
        self._staged: deque[_Staged] = deque()
        # Counts batches: that of the first in `_staged`.
        self._first_number = 0
        self._open = True
        self._streams = [_Stream(self, members, item, loop) for item in range(len(members.clients))]

    def start(self) -> None:
        """Connect the members; not before whoever listens is ready."""
        for member, stream in enumerate(self._streams):
            client = self._members.clients[member]
            client.open_stream(self._members.storage(member), self.loglet, stream)

    def stop(self) -> list[Batch]:
        """Send nothing more and tell of nothing more; gives what is not committed, in order."""
        self._open = False
        for member, stream in enumerate(self._streams):
            self._members.clients[member].close_stream(self._members.storage(member), self.loglet)
            stream.close()
        left = [item.batch for item in self._staged]
        self._staged.clear()
        return left

    def add(self, batches: list[Batch]) -> None:
        """Send these, which follow what was added before."""
        for batch in batches:
            self._staged.append(_Staged(batch, encode_batch(self.loglet, batch)[1]))
        for stream in self._streams:
            stream.pump()

    def staged(self, number: int) -> tuple[int, _Staged | None]:
        """The batch of this number, or the first one that is not committed; with its number."""
        number = max(number, self._first_number)
        position = number - self._first_number
        return number, self._staged[position] if position < len(self._staged) else None

    def acknowledged(self) -> None:
        """A member has stored something: commit what a write quorum has."""
        if not self._open:
            return
        committed: list[Batch] = []
        placement = self._members.placement
        while self._staged:
            batch = self._staged[0].batch
            having = [
                member
                for member, stream in enumerate(self._streams)
                if stream.stored_tail > batch.last_offset
            ]
            if not placement.is_write_quorum(having):
                break
            self._staged.popleft()
            self._first_number += 1
            self.committed_tail = batch.last_offset + 1
            committed.append(batch)
        if committed:
            self._on_commit(committed)
            # What a listener enqueued is sent at the end of this turn and carries the tail along.
            if self._open and not self._staged:
                self._release()

    def _release(self) -> None:
        tail = self.committed_tail
        self._members.broadcast(lambda storage: Release(storage, self.loglet, tail))

    def sealed(self) -> None:
        """A server takes nothing from this sequencer any more."""
        if self._open:
            self._on_sealed()


class _Stream:
    """One member's share of it. It is a `StoreStream`.

    Attributes:
        stored_tail: the member has every batch below, as far as those above the committed tail
            at the time of sending are concerned.
    """

    def __init__(
        self, replicator: Replicator, members: Members, member: int, loop: AbstractEventLoop
    ) -> None:
        self.stored_tail = 1
        self._replicator = replicator
        self._client = members.clients[member]
        self._storage = members.storage(member)
        self._loop = loop
        self._number = 0
        self._ready = False
        self._attempt = 0
        self._failures = 0
        self._pause: TimerHandle | None = None
        # What was sent and is not stored: (last offset, bytes).
        self._sent: deque[tuple[int, int]] = deque()
        self._sent_bytes = 0

    def close(self) -> None:
        self._ready = False
        if self._pause is not None:
            self._pause.cancel()

    def connected(self) -> None:
        self._begin()

    def lost(self) -> None:
        self._ready = False
        # It may come back without its disk: what it had counts again when it says so again.
        self.stored_tail = 1

    def _begin(self) -> None:
        """Send everything again that is not committed."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._attempt += 1
        self._number = 0
        self._sent.clear()
        self._sent_bytes = 0
        self._ready = True
        self.pump()

    def pump(self) -> None:
        """Send what is ready, as far as the window allows."""
        replicator = self._replicator
        while self._ready and (self._sent_bytes < WINDOW_BYTES_MAX or not self._sent):
            number, staged = replicator.staged(self._number)
            if staged is None:
                return
            self._number = number + 1
            last_offset = staged.batch.last_offset
            self._sent.append((last_offset, len(staged.value)))
            self._sent_bytes += len(staged.value)
            self._client.send(
                Store(
                    self._storage,
                    replicator.loglet,
                    replicator.sequencer,
                    replicator.committed_tail,
                    last_offset,
                    staged.value,
                    self._attempt,
                )
            )

    def stored(self, tail: int) -> None:
        self._failures = 0
        while self._sent and self._sent[0][0] < tail:
            self._sent_bytes -= self._sent.popleft()[1]
        if tail > self.stored_tail:
            self.stored_tail = tail
            self._replicator.acknowledged()
        self.pump()

    def refused(self, status: int, attempt: int) -> None:
        if status in (SEALED, GONE):
            self._replicator.sealed()
            return
        if attempt != self._attempt or not self._ready:
            return  # Of what was sent again since, or is about to be.
        self._ready = False
        if status in (LOST, WRONG_SEQUENCER):
            return  # It never will take anything; the others have to do.
        least, most = PAUSE_SECONDS
        pause = min(least * 2**self._failures, most)
        self._failures = min(self._failures + 1, 16)
        self._pause = self._loop.call_later(pause, self._begin)
