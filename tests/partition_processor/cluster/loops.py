"""Several event loops on one virtual time: each node has its own, which may get no turn."""

from asyncio import Future, events
from collections.abc import Callable
from typing import Any

from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.loop import TURN_NS, SimulationLoop


class StepLoop(SimulationLoop):
    """A simulated loop that is run turn by turn from outside."""

    paused_until_ns = 0

    def next_ns(self) -> int | None:
        """When its next turn is due; None when it has nothing to do."""
        timers = self._timers
        due: int | None = None
        if self._ready:
            due = self.now_ns + TURN_NS
        elif timers:
            due = max(self.now_ns + TURN_NS, timers[0][0])
        return None if due is None else max(due, self.paused_until_ns)

    def step(self, now_ns: int) -> None:
        """One turn, not before `now_ns`. Raises what a callback raised."""
        self.now_ns = max(self.now_ns, now_ns - TURN_NS)
        events._set_running_loop(self)
        try:
            self._turn(None)
        finally:
            events._set_running_loop(None)
        if self.failure is not None:
            raise self.failure


class Loops:
    """The loops of one world, in step."""

    def __init__(self) -> None:
        self.loops: list[StepLoop] = []
        self.now_ns = 0

    def make(self, chance: Chance) -> StepLoop:
        loop = StepLoop(jitter=chance, jitter_ns_max=20_000)
        self.loops.append(loop)
        return loop

    def run_until(self, done: "Callable[[], bool]", until_ns: int) -> None:
        """Run all of them; AssertionError when it takes longer than `until_ns`."""
        while not done():
            due = [
                (when, number)
                for number, loop in enumerate(self.loops)
                if (when := loop.next_ns()) is not None
            ]
            assert due, "nothing is ready in any loop"
            when, number = min(due)
            assert when < until_ns, (
                f"not done after {until_ns / 1e9} virtual seconds: "
                + " / ".join(loop.describe_tasks() for loop in self.loops)
            )
            self.now_ns = max(self.now_ns, when)
            self.loops[number].step(when)

    def close(self) -> None:
        for loop in self.loops:
            loop.unwind()
            loop.close()


class Line:
    """What one loop sends to another arrives in order, each thing after a drawn delay."""

    def __init__(
        self, source: StepLoop, target: StepLoop, chance: Chance, delay_ns: tuple[int, int]
    ) -> None:
        self._source = source
        self._target = target
        self._chance = chance
        self._delay_ns = delay_ns
        self._last_ns = 0

    def post(self, call: Callable[[], object]) -> None:
        when = self._source.now_ns + self._chance.between(*self._delay_ns)
        # Timers have a jitter of their own, which must not change the order.
        self._last_ns = when = max(when, self._last_ns + 20_001)
        self._target.call_at_ns(when, call)


def settle(future: "Future[Any]", outcome: object) -> None:
    """Give a future its outcome, unless nobody waits any more."""
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
