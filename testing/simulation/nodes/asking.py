"""How clients reach the nodes: any of them, another one when there is no answer."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from ....core.errors import PerdureError
from ....ingress.requests import Accepted, CallReply, Completed, PendingReply, Rejected, SendReply
from ....node.engine import NodeEngine
from ..chance import Chance
from ..checkers import check_answer
from ..processes import outside
from ..violation import require
from ..workload import MS, Operation
from .member import SimulatedMember

if TYPE_CHECKING:
    from .world import NodesWorld

Reply = CallReply | SendReply | str | PerdureError
"""Of a call, of a start, of an operation."""

Send = Callable[[NodeEngine, Callable[[Reply], None]], PendingReply | None]
"""Asks a node, gives what can be forgotten. Raises PerdureError where the node refuses at once."""

Answered = Completed | Accepted | str | PerdureError | None
"""What has arrived; None when nothing has."""


class Asking:
    """Carries requests of clients to nodes and what comes back.

    Attributes:
        asked: how many requests were sent.
        looks: how many of them were to see a result again.
    """

    def __init__(self, world: "NodesWorld", chance: Chance) -> None:
        """Draw which node each request goes to."""
        self._world = world
        self._chance = chance
        self._waiting: dict[int, tuple[SimulatedMember, Callable[[], None]]] = {}
        self.asked = 0
        self.looks = 0

    async def ask(
        self, operation: Operation, patience_ns: int
    ) -> Completed | Accepted | PerdureError | None:
        """Send an operation to a node and wait; None when the answer is lost.

        Gives the error of a refusal.
        """

        def send(engine: NodeEngine, reply: Callable[[Reply], None]) -> PendingReply:
            if operation.wait:
                return engine.dispatcher.call(operation.request, reply)
            return engine.dispatcher.send(operation.request, reply)

        reply = await self.ask_any(send, lambda reply: self._note(operation, reply), patience_ns)
        assert not isinstance(reply, str)
        return reply

    async def look(self, operation: Operation, patience_ns: int) -> None:
        """See, by way of any node, that an answer is still what it was."""
        invocation_id, name = operation.invocation_id, operation.name
        assert invocation_id is not None
        answered = operation.answered_ns is not None
        self.looks += 1

        def send(engine: NodeEngine, reply: Callable[[Reply], None]) -> PendingReply:
            return engine.dispatcher.output(invocation_id, reply)

        def note(reply: Reply) -> None:
            if isinstance(reply, Completed):
                check_answer(operation, reply)
            elif isinstance(reply, Rejected):
                error = reply.error
                require(
                    error.retryable or not answered,
                    "an answer can be read from every node",
                    f"{name}: {error.code} {error}",
                )

        reply = await self.ask_any(send, note, patience_ns)
        if isinstance(reply, PerdureError) and not reply.retryable and answered:
            require(False, "an answer can be read from every node", f"{name}: {reply}")

    async def ask_any(
        self, send: Send, note: Callable[[Reply], None], patience_ns: int
    ) -> Answered:
        """Ask a node that is drawn, and wait; `note` sees the reply when the node gives it."""
        world, loop = self._world, self._world.loop
        member = world.members[self._chance.pick(world.names)]
        future: asyncio.Future[Reply | None] = loop.create_future()
        self.asked += 1
        number = self.asked
        pending: list[PendingReply] = []

        def settle(reply: Reply | PerdureError | None) -> None:
            if not future.done():
                future.set_result(reply)

        def later(reply: Reply | PerdureError | None) -> None:
            at_ns = loop.now_ns + world.network.delay_ns()
            loop.call_at_ns(at_ns, settle, reply, context=outside())

        def replied(reply: Reply) -> None:
            if self._waiting.pop(number, None) is not None and not member.process.gone:
                with world.first_violation():
                    note(reply)
                later(reply)

        def arrive() -> None:
            if not member.serves:
                later(None)
                return
            self._waiting[number] = member, lambda: later(None)
            member.process.call(loop, serve)

        def serve() -> None:
            if number not in self._waiting:
                return
            assert member.engine is not None
            try:
                item = send(member.engine, replied)
                if item is not None:
                    pending.append(item)
            except PerdureError as error:
                self._waiting.pop(number, None)
                later(error)

        def forget() -> None:
            for item in pending:
                item.forget()

        loop.call_at_ns(loop.now_ns + world.network.delay_ns(), arrive, context=outside())
        impatience = loop.call_at_ns(loop.now_ns + patience_ns, settle, None, context=outside())
        reply = await future
        impatience.cancel()
        if reply is None and self._waiting.pop(number, None) is not None:
            member.process.call(loop, forget)
        return reply.error if isinstance(reply, Rejected) else reply

    def lose(self, member: SimulatedMember) -> None:
        """A node is gone, and its connections with it."""
        for number, (asked, lost) in list(self._waiting.items()):
            if asked is member:
                del self._waiting[number]
                lost()

    def _note(self, operation: Operation, reply: Reply) -> None:
        """A node has answered: from here on nobody may take that back."""
        now_ns = self._world.loop.now_ns
        if isinstance(reply, Completed):
            check_answer(operation, reply)
            if operation.answered_ns is None:
                operation.answered_ns = now_ns
                operation.value = reply.value
        elif not isinstance(reply, Accepted):
            assert isinstance(reply, Rejected)
            error = reply.error
            self._world.trace.add(operation.name, f"refused: {error.code} {error}")
            return
        self._world.trace.add(
            operation.name,
            f"answered: {reply.value!r}" if isinstance(reply, Completed) else "accepted",
        )
        if operation.accepted_ns is None:
            operation.accepted_ns = now_ns
            operation.invocation_id = reply.invocation_id

    async def keep_looking(self, until: Callable[[], bool]) -> None:
        """A reader: asks for results that were given already, of nodes that need not lead."""
        world = self._world
        while not until():
            await world.loop.pause(self._chance.between(20, 600) * MS)
            answered = world.history.answered()
            if answered:
                await self.look(self._chance.pick(answered), 2_000 * MS)
