"""The invocations that a handler has started, and how they are cancelled."""

from collections.abc import Iterator
from typing import Any

from ..core.protocol import messages
from . import wire_commands
from .durable_loop import DurableLoop
from .durable_tasks import CommandFuture, DurableFuture, set_result
from .vm import Machine


def cancel_invocation(machine: Machine, invocation_id: str) -> None:
    """Ask an invocation to cancel itself."""
    machine.command(messages.SEND_SIGNAL_COMMAND, wire_commands.cancel(invocation_id))


class Child:
    """An invocation that a handler has started.

    Attributes:
        cancel_wanted: it is to be cancelled as soon as its id is known.
        invocation_id: None until the node has told.
        future: of a call, its result; None for a send.
    """

    __slots__ = (
        "_asked",
        "_completion_id",
        "_loop",
        "_machine",
        "cancel_wanted",
        "future",
        "invocation_id",
    )

    def __init__(
        self,
        loop: DurableLoop,
        machine: Machine,
        completion_id: int,
        future: CommandFuture[Any] | None,
    ) -> None:
        """`completion_id` brings the invocation id."""
        self._loop = loop
        self._machine = machine
        self._completion_id = completion_id
        self._asked: DurableFuture[str] | None = None
        self.cancel_wanted = False
        self.invocation_id: str | None = None
        self.future = future

    def id_future(self) -> DurableFuture[str]:
        """A future of the invocation id."""
        if self._asked is None or self._asked.cancelled():
            self._asked = self._loop.make_future()
            if self.invocation_id is not None:
                set_result(self._asked, self.invocation_id)
        return self._asked

    def known(self, invocation_id: str) -> None:
        """The node has told the invocation id."""
        self.invocation_id = invocation_id
        if self._asked is not None and not self._asked.done():
            set_result(self._asked, invocation_id)
        if self.cancel_wanted:
            cancel_invocation(self._machine, invocation_id)

    def cancel(self) -> None:
        """Ask the invocation to cancel itself, as soon as its id is known."""
        if self.invocation_id is not None:
            cancel_invocation(self._machine, self.invocation_id)
        else:
            self.cancel_wanted = True

    @property
    def awaited_completion(self) -> int | None:
        """The completion that something waits for; None for none."""
        if self.invocation_id is not None:
            return None
        asked = self._asked is not None and not self._asked.done()
        return self._completion_id if asked or self.cancel_wanted else None


class Children:
    """The invocations that one attempt has started, in order."""

    __slots__ = ("_all", "_called")

    def __init__(self) -> None:
        """None yet."""
        self._all: dict[int, Child] = {}
        self._called: dict[int, Child] = {}

    def add(self, child: Child, id_completion: int, result_completion: int = 0) -> None:
        """A call or send was issued."""
        self._all[id_completion] = child
        if result_completion:
            self._called[result_completion] = child

    def take_id(self, completion_id: int, invocation_id: str) -> bool:
        """The id of a child has arrived; False when the completion belongs to none."""
        child = self._all.pop(completion_id, None)
        if child is not None:
            child.known(invocation_id)
        return child is not None

    def completed(self, completion_id: int) -> None:
        """The result of a call has arrived."""
        self._called.pop(completion_id, None)

    def cancel(self) -> None:
        """Cancel every called child that has not completed; those sent to are on their own."""
        for child in list(self._called.values()):
            child.cancel()

    def owe_cancellations(self) -> bool:
        """Whether some child is to be cancelled whose id has not come."""
        return any(child.cancel_wanted for child in self._all.values())

    def awaited(self) -> Iterator[int]:
        """The completions of invocation ids that something waits for."""
        for child in self._all.values():
            completion_id = child.awaited_completion
            if completion_id is not None:
                yield completion_id
