"""The outside of a history: clients that repeat their requests, operators, and what completes
awakeables, signals and promises.
"""

from functools import partial
from typing import Any, Final

from ...core.clock import ManualClock
from ...core.errors import PerdureError
from ...core.hashing import keyed_partition_key
from ...core.ids import InvocationId, parse_awakeable_id, partition_key_of, partition_of
from ...partition_processor.clients import InvokeOutcome, WorkflowAlreadyInvokedError
from ...partition_processor.effects import Answer
from ...partition_processor.minting import Minter
from ...partition_processor.notification_frames import input_command
from ...partition_processor.operations import Operation, cancel
from ...partition_processor.outcomes import NOT_FOUND, UNCHANGED
from ...partition_processor.processor import InvocationNotFoundError, NotLeadingError
from ...partition_processor.records import (
    KIND_WORKFLOW_SHARED,
    Invoke,
    Kill,
    PatchState,
    Pause,
    Purge,
    Restart,
    Resume,
    Signal,
)
from ...partition_processor.tables.invocations import (
    STATUS_COMPLETED,
    STATUS_PAUSED,
    Failure,
    Invocation,
)
from ..simulation.chance import Chance
from ..simulation.violation import require
from .interpreter import encode_program
from .node import HistoryNode, keep_buckets
from .observer import ONCE, Observer, Result
from .programs import Request
from .stage import Stage

RETENTION_NS: Final = 600 * 10**9
"""Longer than any history; then everything is purged."""


class Client:
    """Asks for one invocation, again and again under one id, until it has an answer.

    Attributes:
        asked: an answer may be on its way.
        answer: the result, once it has come.
    """

    def __init__(self, command: Invoke, observer: Observer) -> None:
        """Ask for `command`, whose partition `observer` watches."""
        self.command = command
        self._observer = observer
        self.asked = False
        self.answer: Result | None = None
        self._attach = False

    def ask(self, node: HistoryNode) -> None:
        """Ask now, whatever was asked before."""
        invocation_id = self.command.invocation_id
        processor = node.processor_of(invocation_id)
        try:
            if self._attach:
                processor.attach(invocation_id, self._reply)
            else:
                processor.invoke(self.command, None, self._reply, wait=True)
        except NotLeadingError:
            return
        except InvocationNotFoundError:
            self._attach = False  # Purged: whoever asks again now, begins it anew.
            return
        self.asked = True

    def attach(self, node: HistoryNode) -> None:
        """Ask for the result alone."""
        self._attach = True
        self.ask(node)

    def _reply(self, outcome: InvokeOutcome) -> None:
        if isinstance(outcome, Answer):
            row = outcome.invocation
            result = (row.output, row.failure)
            name = self.command.invocation_id.hex()
            known = self._observer.results.get(self.command.invocation_id, [])
            require(result in known, ONCE, f"{name}: answered {result}, completed {known}")
            before = self.answer or result
            # Purged in between, it rightly ran again for whoever asked again.
            require(
                before == result or len(known) > 1,
                ONCE,
                f"{name}: answered {before}, then {result}",
            )
            self.answer = result
        elif isinstance(outcome, WorkflowAlreadyInvokedError):
            self._attach = True
            self.asked = False
        else:
            require(isinstance(outcome, NotLeadingError), ONCE, outcome)
            self.asked = False


class Outside:
    """Everybody who is neither node nor worker.

    Attributes:
        clients: those that have begun to ask.
        operations: how many operations were asked for.
    """

    def __init__(
        self, chance: Chance, clock: ManualClock, observers: list[Observer], stage: Stage
    ) -> None:
        """Draw from `chance`."""
        self._chance = chance
        self._clock = clock
        self._minter = Minter(clock, chance)
        keep_buckets(self._minter)
        self._observers = observers
        self._stage = stage
        self.clients: list[Client] = []
        self.operations = 0

    # Clients -------------------------------------------------------------------------------------

    def add(self, request: Request) -> Client:
        """A client that wants this."""
        invocation_id = self._minter.mint(
            request.kind,
            request.service,
            request.key,
            request.handler,
            request.idempotency_key,
        )
        start_ns = 0
        if self._chance.happens(0.1):
            start_ns = self._clock.time_ns() + self._chance.between(1, 50) * 1_000_000
        command = Invoke(
            invocation_id,
            request.service,
            request.handler,
            request.key,
            request.kind,
            input_command((), encode_program(request.program)),
            request.idempotency_key,
            start_ns,
            RETENTION_NS,
            RETENTION_NS // self._chance.pick((1, 2)),
            expires_ns=self._clock.time_ns() + RETENTION_NS,
        )
        client = Client(command, self._observer_of(invocation_id))
        self.clients.append(client)
        return client

    def node_crashed(self) -> None:
        """Nobody answers any more what was asked."""
        for client in self.clients:
            client.asked = False

    def unanswered(self) -> list[Client]:
        """The clients without an answer."""
        return [client for client in self.clients if client.answer is None]

    def _observer_of(self, invocation_id: InvocationId) -> Observer:
        return self._observers[partition_of(partition_key_of(invocation_id), len(self._observers))]

    # Operators -----------------------------------------------------------------------------------

    def operate_at_random(self, node: HistoryNode) -> str:
        """Ask for something of some invocation or object; what it was."""
        chance = self._chance
        observer = chance.pick(self._observers)
        if chance.happens(0.1) or not observer.invocations:
            return self._patch(node)
        invocation_id = chance.pick(list(observer.invocations))
        operation = self._operation(invocation_id, observer.invocations[invocation_id])
        if operation is not None:
            for _ in range(chance.pick((1, 1, 2))):
                self._operate(node, invocation_id, operation)
        return f"{operation}"

    def _operation(self, invocation_id: InvocationId, row: Invocation) -> Operation | None:
        chance = self._chance
        if row.status == STATUS_COMPLETED:
            if chance.happens(0.5):
                return self._restart(invocation_id, row)
            waits = any(
                client.command.invocation_id == invocation_id for client in self.unanswered()
            )
            # Asked again after that, it would rightly run again.
            return None if waits else Purge(invocation_id, chance.happens(0.5))
        what = chance.between(0, 9)
        if what < 3:
            return cancel(invocation_id)
        if what < 5:
            return Kill(invocation_id)
        if what < 7 and row.status != STATUS_PAUSED:
            return Pause(invocation_id)
        return Resume(invocation_id, chance.pick((None, "one")))

    def _restart(self, invocation_id: InvocationId, row: Invocation) -> Operation:
        new_id = self._minter.unique(invocation_id[:8])
        kept = self._chance.between(0, row.entries)
        deployment = self._chance.pick((None, "one"))
        return Restart(invocation_id, new_id, kept, deployment, RETENTION_NS, RETENTION_NS)

    def _patch(self, node: HistoryNode) -> str:
        chance = self._chance
        key = chance.pick(("k0", "k1", "k2"))
        routing = keyed_partition_key(key).to_bytes(8, "big")
        value = f"patch {self.operations}".encode() if chance.happens(0.7) else None
        change = (chance.pick((b"a", b"b")), value)
        service = chance.pick(("Counter", "Lazy"))
        patch = PatchState(routing, service, key, (change,), chance.happens(0.3), None)
        self._operate(node, InvocationId(routing + bytes(16)), patch)
        return f"{patch}"

    def _operate(
        self, node: HistoryNode, invocation_id: InvocationId, operation: Operation
    ) -> None:
        self.operations += 1
        try:
            node.processor_of(invocation_id).operate(operation, _ignore)
        except NotLeadingError:
            return

    # What handlers wait for ----------------------------------------------------------------------

    def complete_something(self, node: HistoryNode) -> None:
        """Complete one of the things that handlers wait for, acknowledged or to be repeated."""
        open_ones = self._open()
        if open_ones:
            self._complete(node, self._chance.pick(open_ones))

    def complete_all(self, node: HistoryNode) -> None:
        """Complete everything that is open."""
        for each in self._open():
            self._complete(node, each)

    def _open(self) -> list[tuple[str, object]]:
        stage = self._stage
        found: list[tuple[str, object]] = [
            ("awakeable", name) for name, done in stage.awakeables.items() if not done
        ]
        found += [("signal", name) for name, done in stage.signals.items() if not done]
        found += [("promise", name) for name, done in stage.promises.items() if not done]
        return found

    def _complete(self, node: HistoryNode, what: tuple[str, object]) -> None:
        self.operations += 1
        kind, name = what
        value: bytes | None = f"{kind} {self.operations}".encode()
        failure = Failure(470, "rejected") if self._chance.happens(0.15) else None
        value = None if failure is not None else value
        if kind == "promise":
            assert isinstance(name, tuple)
            self._stage.promises[name] = True
            service, key, promise = name
            program = [["attempt", [["promise", promise, "resolve"]], [["sleep", 0, False]]]]
            self.add(Request(service, "poke", key, None, KIND_WORKFLOW_SHARED, program))
            return
        if kind == "awakeable":
            assert isinstance(name, str)
            invocation_id, index = parse_awakeable_id(name)
            signal = Signal(invocation_id, index, "", value, failure)
            done = partial(self._acknowledged, self._stage.awakeables, name)
        else:
            assert isinstance(name, tuple)
            invocation_id = name[0]
            signal = Signal(invocation_id, 0, name[1], value, failure)
            done = partial(self._acknowledged, self._stage.signals, name)
        try:
            node.processor_of(invocation_id).operate(signal, done)
        except NotLeadingError:
            return

    @staticmethod
    def _acknowledged(open_ones: dict[Any, bool], name: Any, outcome: object) -> None:
        if outcome in (NOT_FOUND, UNCHANGED):
            # Purged, or not begun, or there already. Whoever waits then, will say so.
            open_ones.pop(name, None)
        elif not isinstance(outcome, PerdureError):
            open_ones[name] = True

    def resume_all(self, node: HistoryNode) -> None:
        """Let everything that is paused go on."""
        for observer in self._observers:
            for invocation_id, row in observer.unfinished():
                if row.status == STATUS_PAUSED:
                    self._operate(node, invocation_id, Resume(invocation_id))


def _ignore(_outcome: object) -> None:
    return None
