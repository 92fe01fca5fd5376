"""Asks every node how it is, again and again, so that a node that hangs holds up no other."""

import threading
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from ...core.clock import Clock
from .answers import Answer, Seen, ask_node

POLL_SECONDS: Final = 0.25
FRESH_SECONDS: Final = 3.0
"""An answer that is older says nothing about now."""
RATE_SECONDS: Final = 1.0
"""A rate is taken over so long at least."""


class Sight(msgspec.Struct, frozen=True):
    """What is known of a node now: its last answer, while fresh, and records per second."""

    answer: Answer | None
    records_per_second: float | None


class Rate:
    """How fast a counter grows. One that falls, or is another process's, begins anew."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._since: Answer | None = None
        self.per_second: float | None = None

    def take(self, answer: Answer) -> None:
        """Look at one more answer."""
        since = self._since
        if answer.records is None:
            self._since = self.per_second = None
        elif (
            since is None
            or since.records is None
            or since.pid != answer.pid
            or since.records > answer.records
        ):
            self._since, self.per_second = answer, None
        else:
            seconds = (answer.at_ns - since.at_ns) / 1e9
            if seconds >= RATE_SECONDS:
                self.per_second = (answer.records - since.records) / seconds
                self._since = answer


class Watch:
    """A thread for each node that is watched, from `start` to `stop`."""

    def __init__(
        self,
        doors: Mapping[str, str],
        pid_of: Callable[[str], int | None],
        clock: Clock,
        ask: Callable[[str], Seen | None] = ask_node,
    ) -> None:
        """Take the admin address of each node by name.

        Args:
            pid_of: the process of a node that runs now; None while none does.
            ask: looks at the node of an address; called on any thread.
        """
        self._doors = dict(doors)
        self._pid_of = pid_of
        self._clock = clock
        self._ask = ask
        self._lock = threading.Lock()
        self._answers: dict[str, Answer] = {}
        self._rates = {name: Rate() for name in doors}
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(name,), name=f"watch {name}", daemon=True)
            for name in doors
        ]

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask no more, and wait for questions under way: each has its bound."""
        self._ending.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def sight(self, name: str) -> Sight:
        """What is known of a node."""
        pid = self._pid_of(name)
        with self._lock:
            answer = self._answers.get(name)
            rate = self._rates[name].per_second
        if (
            answer is None
            or answer.pid != pid
            or self._clock.monotonic_ns() - answer.at_ns > FRESH_SECONDS * 1e9
        ):
            return Sight(None, None)
        return Sight(answer, rate)

    def look(self, name: str) -> None:
        """Ask one node once and keep what it says."""
        pid = self._pid_of(name)
        if pid is None:
            return
        seen = self._ask(self._doors[name])
        # The one that answered may be the one before, or the one after.
        if seen is None or self._pid_of(name) != pid:
            return
        answer = Answer(pid, self._clock.monotonic_ns(), *seen)
        with self._lock:
            self._answers[name] = answer
            self._rates[name].take(answer)

    def _run(self, name: str) -> None:
        while not self._ending.wait(POLL_SECONDS):
            self.look(name)
