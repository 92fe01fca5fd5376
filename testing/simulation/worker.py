"""One simulated worker process: it lives, freezes, dies and comes back."""

import asyncio
from typing import Final

from ...core.tasks import TaskScope
from ...sdk.run_worker import run_worker
from ...sdk.service import App
from .chance import Chance
from .loop import SimulationClock
from .network import SimulationNetwork
from .node import NODE_ADDRESS

CODE_HASH: Final = "0" * 64


class SimulatedWorker:
    """The real worker on a simulated network, under one name over all its lives.

    Attributes:
        name: what network and trace call it.
        deployment: what it runs as in this life, or ran as in the last one.
    """

    def __init__(
        self,
        name: str,
        app: App,
        *,
        network: SimulationNetwork,
        seed: int,
        addresses: tuple[str, ...] = (NODE_ADDRESS,),
    ) -> None:
        """Prepare to work for the nodes at `addresses`; `start` begins a life."""
        self._addresses = addresses
        self.name = name
        self._app = app
        self._network = network
        self._seed = seed
        self.deployment = ""
        self._lives = 0
        self._dying = False
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    @property
    def alive(self) -> bool:
        """Whether it runs, frozen or not."""
        return self._task is not None and not self._task.done()

    @property
    def dying(self) -> bool:
        """Whether it was told to die and is not gone yet."""
        return self._dying and self.alive

    def start(self, scope: TaskScope, deployment: str, clock_shift_ns: int) -> None:
        """Begin a life as a worker of `deployment`, with a clock that is off."""
        assert not self.alive, f"{self.name} is alive"
        self._lives += 1
        self.deployment = deployment
        self._dying = False
        self._stop = asyncio.Event()
        self._network.trace.add(self.name, f"starts as {deployment}")
        self._task = scope.spawn(self._live(clock_shift_ns), name=self.name)

    async def _live(self, clock_shift_ns: int) -> None:
        await run_worker(
            self._app,
            self._addresses,
            deployment=self.deployment,
            code_hash=CODE_HASH,
            transport=self._network.transport(self.name),
            clock=SimulationClock(self._network.loop, clock_shift_ns),
            random=Chance(self._seed, f"{self.name}/{self._lives}"),
            name=self.name,
            stop=self._stop,
        )

    def die(self) -> None:
        """Be gone at once; the node hears of it in its time."""
        if self._task is not None and self.alive:
            self._network.trace.add(self.name, "dies")
            self._network.cut(self.name)
            self._network.thaw(self.name)
            self._dying = True
            self._task.cancel()

    async def end(self) -> None:
        """End in good order: finish what runs, then go."""
        if self._task is not None:
            self._stop.set()
            await asyncio.wait([self._task])
