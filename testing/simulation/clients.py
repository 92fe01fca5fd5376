"""A client: asks one thing after the other and repeats what it got no answer for."""

from typing import Protocol

from ...core.errors import PerdureError
from ...ingress.requests import Accepted, Completed
from .chance import Chance
from .loop import SimulationLoop
from .trace import Trace
from .violation import InvariantViolation
from .workload import MS, History, Operation, OperationMaker


class Served(Protocol):
    """What a client needs of its world."""

    loop: SimulationLoop
    trace: Trace
    history: History
    maker: OperationMaker
    healed: bool

    async def ask(
        self, operation: Operation, patience_ns: int
    ) -> Completed | Accepted | PerdureError | None:
        """Send a request and wait; None when the answer is lost."""
        ...


class Client:
    """Works off its operations, each under one identity however often it must be repeated.

    Attributes:
        name: what the trace calls it.
    """

    def __init__(self, name: str, world: Served, operations: int, chance: Chance) -> None:
        """Do so many operations."""
        self.name = name
        self._world = world
        self._operations = operations
        self._chance = chance

    async def run(self) -> None:
        """Do all of them. Raises InvariantViolation on a refusal that makes no sense."""
        world = self._world
        chance = self._chance
        think_ns_max = chance.pick((1, 50, 300)) * MS
        impatient = chance.happens(0.3)
        for _ in range(self._operations):
            await world.loop.pause(int(chance.fraction() * think_ns_max))
            operation = world.maker.make(self.name)
            operation.invoked_ns = world.loop.now_ns
            world.history.operations.append(operation)
            while True:
                operation.tries += 1
                request = operation.request
                world.trace.add(
                    operation.name,
                    f"try {operation.tries}: {request.service}/{request.handler} "
                    f"{request.key or ''} {request.body.decode()}",
                )
                patience_ms = chance.between(5, 50) if impatient else 20_000
                if world.healed:
                    patience_ms = 60_000
                reply = await world.ask(operation, patience_ms * MS)
                if isinstance(reply, Completed | Accepted):
                    break
                if isinstance(reply, PerdureError) and not reply.retryable:
                    raise InvariantViolation(
                        "no sound request is refused", f"{operation.name}: {reply.code} {reply}"
                    )
                await world.loop.pause(chance.between(1, 40) * MS)
