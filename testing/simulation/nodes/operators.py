"""An operator: starts invocations that wait for him, and signals, cancels, kills, pauses them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from ....core.errors import PerdureError, StorageError
from ....core.ids import InvocationId, partition_key_of
from ....ingress.requests import (
    Accepted,
    Completed,
    InvocationFailure,
    InvocationRequest,
    PendingReply,
)
from ....node.engine import NodeEngine
from ....partition_processor import outcomes
from ....partition_processor.operations import cancel
from ....partition_processor.records import Kill, Pause, Resume, Signal
from ..chance import Chance
from ..violation import require
from ..workload import GO, MS, TUNE
from .asking import Answered, Reply, Send

_T = TypeVar("_T")

if TYPE_CHECKING:
    from .world import NodesWorld

Deed = Signal | Kill | Pause | Resume

WISHES: Final = ("signal", "pause", "cancel", "kill", "nothing")
PATIENCE_NS: Final = 3_000 * MS

_ASKED_FOR_ENDS: Final = {"cancel": "cancelled", "kill": "killed"}


@dataclass(slots=True)
class Errand:
    """One invocation of the operator.

    Attributes:
        name: also its idempotency key.
        wish: what he does to it, one of `WISHES`.
        handler: of the service ``Chores``; ``herd`` waits for two that wait, ``listen`` for signals
            that another invocation sends.
        answer: how it ended.
    """

    name: str
    wish: str
    handler: str
    invocation_id: InvocationId | None = None
    answer: tuple[bytes, InvocationFailure | None] | None = None


class Operators:
    """Runs errands, one after the other.

    Attributes:
        errands: all that were begun.
    """

    def __init__(self, world: "NodesWorld", chance: Chance) -> None:
        """Draw what is done."""
        self._world = world
        self._chance = chance
        self._pause_ms_max = chance.pick((50, 500, 3_000))
        self.errands: list[Errand] = []

    async def run(self, until: Callable[[], bool]) -> None:
        """Begin errands until it is over, and finish the last one. Raises InvariantViolation."""
        chance = self._chance
        while not until():
            await self._world.loop.pause(chance.between(1, self._pause_ms_max) * MS)
            wish = chance.pick(WISHES)
            # A herd ends by itself only when those that it called do, whom nobody signals.
            herd = wish in _ASKED_FOR_ENDS and chance.happens(0.5)
            name = f"errand-{len(self.errands) + 1}"
            handler = "listen" if wish == "nothing" else "herd" if herd else "linger"
            errand = Errand(name, wish, handler)
            self.errands.append(errand)
            await self._start(errand)
            await self._world.loop.pause(chance.between(0, 200) * MS)
            await self._fulfil(errand)
            await self.see(errand)

    async def _start(self, errand: Errand) -> None:
        body = b'"%s"' % errand.name.encode()
        request = InvocationRequest(
            "Chores", errand.handler, None, body, idempotency_key=errand.name
        )

        def send(engine: NodeEngine, reply: Callable[[Reply], None]) -> PendingReply:
            return engine.dispatcher.send(request, reply)

        accepted = await self._until(errand, send, Accepted)
        errand.invocation_id = accepted.invocation_id
        self._world.history.others.add(accepted.invocation_id)

    async def _fulfil(self, errand: Errand) -> None:
        assert errand.invocation_id is not None
        for operation in operations_of(errand.wish, errand.invocation_id):
            outcome = await self._operate(errand, operation)
            require(
                outcome != outcomes.NOT_FOUND,
                "what was accepted is known",
                f"{errand.name}: {type(operation).__name__}",
            )

    async def _operate(self, errand: Errand, operation: Deed) -> str:
        partition_key = partition_key_of(operation.invocation_id)

        def send(engine: NodeEngine, reply: Callable[[Reply], None]) -> None:
            engine.manager.partition_for(partition_key).operate(operation, reply)

        return await self._until(errand, send, str)

    async def see(self, errand: Errand) -> None:
        """Wait for its end, by way of any node: as was asked for, and the same each time."""
        assert errand.invocation_id is not None
        invocation_id = errand.invocation_id

        def send(engine: NodeEngine, reply: Callable[[Reply], None]) -> PendingReply:
            return engine.dispatcher.attach(invocation_id, reply)

        while True:
            completed = await self._ask(errand, send)
            if isinstance(completed, Completed):
                break
            if errand.wish == "pause":
                # An earlier try of pausing may have come after the resumption.
                await self._operate(errand, Resume(invocation_id))
        answer = completed.value, completed.failure
        require(
            errand.answer is None or errand.answer == answer,
            "an answer never changes",
            f"{errand.name}: {answer} after {errand.answer}",
        )
        errand.answer = answer
        require(
            _is_right(errand.wish, completed),
            "an invocation ends as its operator wanted",
            f"{errand.name}: {errand.wish} of {errand.handler} gave {answer}",
        )

    async def _ask(self, errand: Errand, send: Send) -> Answered:
        """Raises InvariantViolation when it is refused for good."""
        reply = await self._world.asking.ask_any(send, _note_nothing, PATIENCE_NS)
        if isinstance(reply, PerdureError):
            # A node whose disk fails says that, and stops: another one has to be asked.
            require(
                isinstance(reply, StorageError) or reply.retryable,
                "no sound request is refused",
                f"{errand.name}: {reply.code} {reply}",
            )
        return reply

    async def _until(self, errand: Errand, send: Send, kind: type[_T]) -> _T:
        while not isinstance(reply := await self._ask(errand, send), kind):
            await self._world.loop.pause(self._chance.between(1, 40) * MS)
        return reply


def operations_of(wish: str, invocation_id: InvocationId) -> list[Deed]:
    """What an operator does, in this order."""
    go = Signal(invocation_id, 0, GO, b'"go"', None)
    deeds: dict[str, list[Deed]] = {
        "signal": [go],
        "pause": [Pause(invocation_id), Resume(invocation_id), go],
        "cancel": [cancel(invocation_id)],
        "kill": [Kill(invocation_id)],
        "nothing": [],
    }
    return deeds[wish]


def _is_right(wish: str, completed: Completed) -> bool:
    failure = completed.failure
    if wish in _ASKED_FOR_ENDS:
        return failure is not None and (failure.code, failure.message) == (
            409,
            _ASKED_FOR_ENDS[wish],
        )
    if failure is not None:
        return False
    if wish == "nothing":
        return bool(json.loads(completed.value) == TUNE)
    return completed.value.endswith(b' go"')


def _note_nothing(reply: Reply) -> None:
    """What counts is noted once it has arrived."""
