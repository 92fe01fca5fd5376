"""One life of a node inside a test: the real engine on stores in memory and on a virtual clock."""

from collections.abc import Callable
from typing import Final

from ..core.errors import PerdureError
from ..core.metrics import Metrics
from ..core.net.inproc import InProcListener, InProcNetwork, InProcTransport
from ..core.protocol.session import SESSION_SERVICE
from ..core.random import Random
from ..core.storage.memory import MemoryStore
from ..ingress.errors import NotLeaderError
from ..log.local.sync_runner import SyncDone
from ..node.engine import NodeEngine
from ..node.options import NodeOptions
from ..partition_processor.invoker.invoker import Invoker
from ..partition_processor.invoker.ticks import Ticks
from .virtual_time import VirtualClock, VirtualTime

NODE_ADDRESS: Final = "node:5122"
STORES: Final = ("metadata", "store", "log")
_NEVER: Final = float("inf")


class _Ticks(Ticks):
    """Ticks that are read off the clock, so that nobody has to move them on."""

    def __init__(self, clock: VirtualClock, tick_ns: int) -> None:
        self.tick_ns = tick_ns
        self._clock = clock

    @property
    def now(self) -> int:  # type: ignore[override]  # a slot of the base, which is only read
        return self._clock.monotonic_ns() // self.tick_ns


class _InlineSyncRunner:
    """Stores in memory sync at once: no thread is needed for them."""

    def run(self, sync: Callable[[], int], done: SyncDone) -> None:
        done(sync())

    def close(self) -> None:
        pass


class NodeLife:
    """A node from its start to its crash or its end.

    Attributes:
        engine: the real thing.
        leading: every partition leads and workers are let in.
        failure: why the engine stopped by itself, None while it works.
    """

    def __init__(
        self,
        options: NodeOptions,
        stores: dict[str, MemoryStore],
        *,
        network: InProcNetwork,
        time: VirtualTime,
        clock: VirtualClock,
        random: Random,
    ) -> None:
        """Build the engine; `start` follows."""
        self._stores = stores
        self._network = network
        self._time = time
        self._clock = clock
        self._listener: InProcListener | None = None
        self._silence_due_ns: int | None = None
        self.leading = False
        self.gone = False
        self.failure: PerdureError | None = None
        self.engine = NodeEngine(
            options,
            open_store=stores.__getitem__,
            clock=clock,
            random=random,
            metrics=Metrics(),
            on_failure=self._failed,
            make_sync_runner=lambda _store: _InlineSyncRunner(),
        )
        self._without_rounds()

    def _without_rounds(self) -> None:
        """Have nothing look again from time to time: a virtual clock drifts nowhere.

        Days of virtual time would be made of such looks, and a test that waits for nothing that
        can come would never be found out.
        """
        engine = self.engine
        engine._silence.stop()
        engine._silence.start = lambda: None  # type: ignore[method-assign]
        engine._trimmer.start = lambda: None  # type: ignore[method-assign]
        invoker = engine.manager.invoker
        invoker.ticks = _Ticks(self._clock, invoker.ticks.tick_ns)
        for processor in engine.manager.processors:
            drivers = processor.drivers
            for timers in (drivers.timers, drivers.expiry, processor._retries):
                timers.LOOK_AGAIN_SECONDS = _NEVER  # type: ignore[misc]

    async def start(self) -> None:
        """Recover and lead. Raises PerdureError."""
        await self.engine.start()
        self._listener = await InProcTransport(self._network, "node").listen(
            NODE_ADDRESS, {SESSION_SERVICE: self.engine.reception.serve}
        )
        self.leading = True

    def _failed(self, error: PerdureError) -> None:
        if not self.gone:
            self.failure = error

    async def crash(self) -> None:
        """Be gone at once, with what was not synced; the stores are then those of the next life."""
        self.gone = True
        self.leading = False
        for name, store in self._stores.items():
            self._stores[name] = store.crash()
        await self._stop("the node has crashed")

    async def close(self) -> None:
        """End in good order."""
        self.gone = True
        self.leading = False
        await self._stop("the node is shutting down")

    async def _stop(self, reason: str) -> None:
        self.engine.stop(NotLeaderError(reason))
        if self._listener is not None:
            self._network.cut(NODE_ADDRESS)
            await self._listener.close(grace_seconds=0.0)
        self.engine.close()

    def watch_silence(self) -> bool:
        """Before time jumps: have it stop where an attempt has been quiet for too long.

        Whether a timer was set for that.
        """
        due_ns = _silence_due_ns(self.engine.manager.invoker)
        if due_ns is None or not self.leading:
            return False
        if self._silence_due_ns is not None and self._silence_due_ns <= due_ns:
            return False
        self._silence_due_ns = due_ns
        self._time.call_at(self._clock.at(due_ns), self._end_silent)
        return True

    def _end_silent(self) -> None:
        self._silence_due_ns = None
        if self.leading:
            self.engine.manager.invoker.end_silent()


def _silence_due_ns(invoker: Invoker) -> int | None:
    """When the first attempt will have been quiet for too long, None when there is none."""
    first: int | None = None
    for session in (*invoker.sessions, *invoker._draining):
        for attempt in session.attempts.values():
            if attempt.over or not attempt.owner.listening:
                continue
            since, timeout_ns = attempt.heard, attempt.handling.inactivity_timeout_ns
            if attempt.suspending >= 0:
                since = max(since, attempt.suspending)
                timeout_ns = attempt.handling.abort_timeout_ns
            due = since + 1 - -timeout_ns // invoker.ticks.tick_ns
            if first is None or due < first:
                first = due
    return None if first is None else first * invoker.ticks.tick_ns
