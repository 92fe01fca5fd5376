"""Rounds: the sequencers of one node send their batches together, and one batch at a time each.

What is enqueued while a batch is under way waits for its commit and makes the next one. That costs
the wait, and little of it: batches of a loglet commit in order, so the next one would have waited
anyway. It saves most of the messages, writes and syncs of a busy node, where each of its partitions
would send a few records in each turn of the event loop. (Nagle's algorithm, RFC 896, with commits
for acknowledgements.)

Loglets wait for each other as well, so that theirs are one message, one write and one sync at each
server. But nobody waits for long, nor for a loglet that took long the last time, or one whose
servers are slow would slow all others down. A machine but for its timer.
"""

from asyncio import AbstractEventLoop, TimerHandle
from typing import Final, Protocol

SLACK_SECONDS: Final = 0.002
FACTOR: Final = 2.0
"""It is long when it takes more than so many times what commits usually take, and the slack."""

LONG_SECONDS_MAX: Final = 0.05
"""And what takes longer than this is long, whatever is usual."""

WEIGHT: Final = 0.125
"""What a commit counts for in what is usual."""


class Sender(Protocol):
    """A loglet whose batches are sent from here."""

    def send_later(self) -> None:
        """Ask for leave once more at the end of this turn; there is something to send."""
        ...


class Rounds:
    """Tells the senders of one node when to send. Everything runs on the event loop's thread."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Begin with nothing under way."""
        self._loop = loop
        # Who has batches under way, since when; and whom of them the others wait for.
        self._busy: dict[Sender, float] = {}
        self._round: set[Sender] = set()
        self._held: dict[Sender, None] = {}
        self._slow: set[Sender] = set()
        self._usual_seconds = 0.0
        self._joining = False
        self._ends = 0.0
        self._timer: TimerHandle | None = None

    def may_send(self, sender: Sender) -> bool:
        """Whether to send now, all that there is; if not, `send_later` is called when to ask again.

        Whoever sends calls `committed` once nothing of it is under way any more.
        """
        if sender in self._busy or (self._round and not self._joining):
            self._held[sender] = None
            self._limit_wait()
            return False
        now = self._loop.time()
        if not self._joining:
            # All that are to send at the end of the same turn are in it.
            self._joining = True
            self._ends = now + self._long_seconds
            self._loop.call_soon(self._stop_joining)
        self._busy[sender] = now
        if sender not in self._slow:
            self._round.add(sender)
        self._held.pop(sender, None)
        return True

    def committed(self, sender: Sender) -> None:
        """Nothing that it sent is under way any more."""
        since = self._busy.get(sender)
        if since is not None:
            took, long = self._loop.time() - since, self._long_seconds
            if took > long:
                self._slow.add(sender)
            else:
                self._slow.discard(sender)
            # One that took for ever does not make that usual; many that take longer do.
            self._usual_seconds += (min(took, long) - self._usual_seconds) * WEIGHT
        self._done(sender)

    def leave(self, sender: Sender) -> None:
        """It will not send again, or sends without asking: others do not wait for it."""
        self._held.pop(sender, None)
        self._slow.discard(sender)
        self._done(sender)

    def _done(self, sender: Sender) -> None:
        self._busy.pop(sender, None)
        self._round.discard(sender)
        if not self._round:
            self._go_on()
        elif sender in self._held:
            # Of an earlier round, or slow: the timer may not have been set for this one.
            self._limit_wait()

    @property
    def _long_seconds(self) -> float:
        return min(FACTOR * self._usual_seconds + SLACK_SECONDS, LONG_SECONDS_MAX)

    def _stop_joining(self) -> None:
        self._joining = False

    def _limit_wait(self) -> None:
        if self._round and self._timer is None:
            self._timer = self._loop.call_at(self._ends, self._wait_is_over)

    def _wait_is_over(self) -> None:
        self._timer = None
        self._round.clear()
        self._go_on()

    def _go_on(self) -> None:
        """Have all send that were held back, but for those with something under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held = self._held
        for sender in [item for item in held if item not in self._busy]:
            del held[sender]
            sender.send_later()
