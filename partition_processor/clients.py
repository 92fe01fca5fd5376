"""The clients of one partition that wait for an answer from this process."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from ..core.errors import PerdureError
from ..core.ids import InvocationId, invocation_id_text
from .effects import Accepted, Answer, Done, StateChanged
from .errors import InvocationNotFoundError
from .records import KIND_WORKFLOW_RUN
from .tables.invocations import STATUS_COMPLETED, Invocation

InvokeOutcome: TypeAlias = Accepted | Answer | PerdureError
"""What became of a proposed Invoke."""

InvokeReply: TypeAlias = Callable[[InvokeOutcome], None]
"""Told once, on the loop, what became of it; must not raise."""

OperationReply: TypeAlias = Callable[[str | PerdureError], None]
"""Told once, on the loop, the outcome of an operation, one of `outcomes`; must not raise."""

Look: TypeAlias = Callable[[InvocationId, Invocation | None, InvokeReply], None]
"""A way to answer from an invocation's row. Raises InvocationNotFoundError."""


class InvocationIdInUseError(PerdureError):
    """The invocation id that a client fixed belongs to an invocation of another target."""

    code = "PD0907"


class WorkflowAlreadyInvokedError(PerdureError):
    """The workflow's run was started before; it runs once per key."""

    code = "PD0910"


class InvocationExpiredError(PerdureError):
    """The request reached its partition so late that its id may have been used and forgotten."""

    code = "PD0911"


class Proposed(msgspec.Struct, gc=False, eq=False):
    """An Invoke on its way through the log, and who wants to know.

    Attributes:
        wait: for the result, not only for the invocation to be durable.
        target: service, handler and key.
        request_id: see `records.Invoke`.
    """

    reply: InvokeReply
    wait: bool
    invocation_id: InvocationId
    target: tuple[str, str, str | None]
    request_id: bytes | None = None


class Clients:
    """Who waits for what: first for their Invoke to be applied, then for the result."""

    def __init__(self) -> None:
        """Start without anybody."""
        self._proposed: dict[int, Proposed] = {}
        # Invokes that wait for the log to take records again, in order.
        self._held: list[Proposed] = []
        self._waiters: dict[InvocationId, list[InvokeReply]] = {}
        self._waiting = 0
        self._operations: dict[int, OperationReply] = {}
        self._held_operations: list[OperationReply] = []
        # Who wants to know of a change's turn: by the operation's reply, then by its inbox row.
        self._patient: dict[OperationReply, OperationReply] = {}
        self._turns: dict[bytes, OperationReply] = {}

    def __len__(self) -> int:
        """How many have not been answered."""
        return (
            len(self._proposed)
            + len(self._held)
            + self._waiting
            + len(self._operations)
            + len(self._held_operations)
            + len(self._turns)
        )

    def waiting_for(self, invocation_id: InvocationId) -> int:
        """How many wait for the result of an invocation."""
        return len(self._waiters.get(invocation_id, ()))

    def operated(self, reply: OperationReply, sequence: int) -> None:
        """An operation was put into the log as the leader's record of this number."""
        if reply in self._held_operations:
            self._held_operations.remove(reply)
        self._operations[sequence] = reply

    def hold_operation(self, reply: OperationReply) -> None:
        """An operation waits for the log to take records again; `operated` follows."""
        self._held_operations.append(reply)

    def done(self, item: Done) -> None:
        """An operation was applied."""
        reply = self._operations.pop(item.sequence, None)
        if reply is not None:
            on_turn = self._patient.pop(reply, None)
            if on_turn is not None and item.queued_as:
                self._turns[item.queued_as] = on_turn
            reply(item.outcome)

    def await_turn(self, reply: OperationReply, on_turn: OperationReply) -> None:
        """Where `reply` is told that a change of state is queued, tell `on_turn` what it came to.

        To be called before the operation, with `forget_turn` when nobody waits any more.
        """
        self._patient[reply] = on_turn

    def forget_turn(self, reply: OperationReply, on_turn: OperationReply) -> None:
        """Nobody waits for the turn any more; the change stays where it is."""
        self._patient.pop(reply, None)
        for row, waiting in self._turns.items():
            if waiting is on_turn:
                del self._turns[row]
                return

    def state_changed(self, item: StateChanged) -> None:
        """A change of state that was queued has had its turn."""
        on_turn = self._turns.pop(item.row, None)
        if on_turn is not None:
            on_turn(item.outcome)

    def wait_for(
        self, invocation_id: InvocationId, invocation: Invocation, reply: InvokeReply
    ) -> None:
        """Answer with the invocation's result, now or when it has one."""
        if invocation.status == STATUS_COMPLETED:
            reply(Answer(invocation_id, invocation, stored=True))
        else:
            self._waiting += 1
            self._waiters.setdefault(invocation_id, []).append(reply)

    def attach(
        self, invocation_id: InvocationId, invocation: Invocation | None, reply: InvokeReply
    ) -> None:
        """`wait_for`, where it exists. Raises InvocationNotFoundError."""
        if invocation is None:
            raise InvocationNotFoundError("not found")
        self.wait_for(invocation_id, invocation, reply)

    def output(
        self, invocation_id: InvocationId, invocation: Invocation | None, reply: InvokeReply
    ) -> None:
        """Answer with the invocation as it is. Raises InvocationNotFoundError."""
        if invocation is None:
            raise InvocationNotFoundError("not found")
        reply(Answer(invocation_id, invocation, stored=True))

    def proposed(self, proposed: Proposed, sequence: int) -> None:
        """An Invoke was put into the log as the leader's record of this number."""
        if self._held and proposed in self._held:
            self._held.remove(proposed)
        self._proposed[sequence] = proposed

    def hold(self, proposed: Proposed) -> None:
        """An Invoke waits for the log to take records again; `proposed` follows."""
        self._held.append(proposed)

    def accepted(self, item: Accepted) -> None:
        """An Invoke was applied: answer, or wait for the result."""
        proposed = self._proposed.pop(item.sequence, None)
        if proposed is None:
            return
        known = item.known
        if known is not None and proposed.request_id == known.request_id is not None:
            # It was this very request that made it, by way of a leader that did not answer.
            if proposed.wait:
                self.wait_for(item.invocation_id, known, proposed.reply)
            else:
                proposed.reply(Accepted(item.epoch, item.sequence, item.invocation_id, None))
        elif item.expired:
            proposed.reply(
                InvocationExpiredError(
                    f"invocation {invocation_id_text(item.invocation_id)} was asked for so long "
                    "ago that it may have run and been forgotten: ask for it under a new id if it "
                    "should run. If it was asked for just now, clocks are minutes apart: perdure "
                    "doctor tells which"
                )
            )
        elif known is not None and proposed.target != (known.service, known.handler, known.key):
            proposed.reply(
                InvocationIdInUseError(
                    f"invocation {invocation_id_text(item.invocation_id)} is one of "
                    f"{known.service}/{known.handler}: mint a new id for another target"
                )
            )
        elif not proposed.wait:
            proposed.reply(item)
        elif known is None:
            self._waiting += 1
            self._waiters.setdefault(item.invocation_id, []).append(proposed.reply)
        elif known.target_kind == KIND_WORKFLOW_RUN:
            proposed.reply(
                WorkflowAlreadyInvokedError(
                    f"workflow {known.service}/{known.key} was started before, as invocation "
                    f"{invocation_id_text(item.invocation_id)}: a workflow runs once per key; "
                    "attach to it to have its result"
                )
            )
        else:
            self.wait_for(item.invocation_id, known, proposed.reply)

    def answered(self, item: Answer) -> None:
        """An invocation has completed."""
        replies = self._waiters.pop(item.invocation_id, None)
        if replies is not None:
            self._waiting -= len(replies)
            for reply in replies:
                reply(item)

    def forget(self, invocation_id: InvocationId, reply: InvokeReply) -> None:
        """Whoever waited for `reply` is gone; the invocation goes on."""
        waiting = self._waiters.get(invocation_id)
        if waiting is not None and reply in waiting:
            waiting.remove(reply)
            self._waiting -= 1
            if not waiting:
                del self._waiters[invocation_id]
            return
        for proposed in self._held:
            if proposed.invocation_id == invocation_id and proposed.reply is reply:
                # It stays on its way; only nobody hears of it.
                proposed.reply = _nobody
                proposed.wait = False
                return
        for sequence, proposed in self._proposed.items():
            if proposed.invocation_id == invocation_id and proposed.reply is reply:
                del self._proposed[sequence]
                return

    def refuse_held(self, error: PerdureError) -> None:
        """Tell those whose Invoke was held back that it does not get into the log."""
        held, self._held = self._held, []
        for item in held:
            item.reply(error)
        held_operations, self._held_operations = self._held_operations, []
        for reply in held_operations:
            reply(error)

    def fail(self, error: PerdureError) -> None:
        """Tell everybody that no answer comes from here; what they asked for may still run."""
        proposed, self._proposed = self._proposed, {}
        held, self._held = self._held, []
        waiters, self._waiters = self._waiters, {}
        self._waiting = 0
        operations, self._operations = self._operations, {}
        held_operations, self._held_operations = self._held_operations, []
        for item in (*proposed.values(), *held):
            item.reply(error)
        turns, self._turns = self._turns, {}
        self._patient.clear()
        for operation in (*operations.values(), *held_operations, *turns.values()):
            operation(error)
        for replies in waiters.values():
            for reply in replies:
                reply(error)


def look_later(
    look: Look,
    find: Callable[[InvocationId], Invocation | None],
    invocation_id: InvocationId,
    reply: InvokeReply,
) -> None:
    """Look at what `find` gives by now; `reply` gets the error."""
    try:
        look(invocation_id, find(invocation_id), reply)
    except InvocationNotFoundError as error:
        reply(error)


def _nobody(_outcome: InvokeOutcome) -> None:
    return None
