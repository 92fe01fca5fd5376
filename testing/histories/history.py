"""One history: requests, attempts, commits, timers and faults in an order drawn from the seed."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final

import msgspec

from ...core.clock import ManualClock
from ...core.ids import parse_invocation_id, partition_key_of, partition_of
from ...core.retry import RetryPolicy
from ...core.storage.memory import MemoryStore
from ...partition_processor.deployments import Deployment, Schema
from ...partition_processor.handling import HandlingDefaults
from ...partition_processor.manager import partition_range
from ...partition_processor.tables.invocations import STATUS_NAMES
from ..simulation.chance import Chance
from ..simulation.violation import require
from .interpreter import make_app
from .log import HistoryLog
from .node import HistoryNode, hello_of
from .observer import ONCE, SAME_DIGEST, Observer
from .outside import RETENTION_NS, Outside
from .programs import Composer
from .stage import Stage
from .wakers import check_wakers
from .worker import HistoryWorker, Link

FINISHES: Final = "every invocation completes"
ANSWERED: Final = "every client is answered"
_STEPS_MAX: Final = 20_000
_SETTLING_NS_MAX: Final = RETENTION_NS // 3
_MS: Final = 1_000_000


class HistoryOptions(msgspec.Struct, frozen=True):
    """What a history may have in it.

    Attributes:
        faults: crashes, cuts, freezes and operators.
        invocations_max: so many are planned at most; restarts come on top.
    """

    faults: bool = True
    invocations_max: int = 14


@cache
def _app() -> tuple[dict[Any, Any], tuple[Any, ...]]:
    app = make_app()
    return app.handler_table(), app.manifest()


@cache
def _schema() -> Schema:
    manifest = _app()[1]
    return Schema(tuple(Deployment(name, "0" * 64, manifest, 0) for name in ("one", "two")))


class History:
    """The world of one seed.

    Attributes:
        lines: what happened, for people.
        lives: of the node.
    """

    def __init__(self, seed: int, options: HistoryOptions) -> None:
        """Draw everything from `seed`."""
        self._options = options
        self._chance = chance = Chance(seed, "schedule")
        self._clock = ManualClock()
        self._started_ns = self._clock.time_ns()
        self.stage = Stage()
        self.lines: list[str] = []
        self.lives = 0
        count = chance.between(2, 3)
        rows = MemoryStore()
        self.observers = [
            Observer(partition_range(number, count), rows, self.stage.forget)
            for number in range(count)
        ]
        self.logs = [HistoryLog(self._clock, each.committed) for each in self.observers]
        self._defaults = self._draw_defaults(Chance(seed, "defaults"))
        self._random = Chance(seed, "ids")
        handlers, manifest = _app()
        deployments = ("one", "two") if chance.happens(0.2) else ("one", "one")
        self._workers = [
            HistoryWorker(self.stage, handlers, self._clock, chance.between(-5, 5) * _MS)
            for _ in deployments
        ]
        self._hellos = [hello_of(name, chance.pick((1, 3, 100)), manifest) for name in deployments]
        self.outside = Outside(Chance(seed, "outside"), self._clock, self.observers, self.stage)
        composer = Composer(Chance(seed, "programs"), options.invocations_max)
        self._requests = [composer.request() for _ in range(chance.between(3, 6))]
        self._outsiders = chance.pick((0.01, 0.04)) if options.faults else 0.0
        faulty = chance.pick((0.0, 0.02, 0.05)) if options.faults else 0.0
        self._rare = 3 * self._outsiders + faulty
        self.node = self._start(MemoryStore())

    def _draw_defaults(self, chance: Chance) -> HandlingDefaults:
        # Of what handlers call; clients know how long they may repeat themselves.
        kept_ns = chance.pick((RETENTION_NS, RETENTION_NS, 30 * _MS, 0))
        return HandlingDefaults(
            retry=RetryPolicy(
                initial_interval_ns=chance.pick((1, 10)) * _MS,
                interval_max_ns=50 * _MS,
                attempts_max=chance.pick((3, 10, None)),
            ),
            pause_when_exhausted=chance.happens(0.5),
            inactivity_timeout_ns=chance.pick((20, 200, 60_000)) * _MS,
            abort_timeout_ns=chance.pick((50, 500, 600_000)) * _MS,
            plain_retention_ns=kept_ns,
            journal_retention_ns=kept_ns // 2,
            idempotency_retention_ns=kept_ns,
            workflow_retention_ns=kept_ns,
        )

    def _start(self, store: MemoryStore) -> HistoryNode:
        self.lives += 1
        for log in self.logs:
            log.accepting = True
        return HistoryNode(
            store=store,
            logs=self.logs,
            observers=self.observers,
            epoch=self.lives,
            clock=self._clock,
            random=self._random,
            schema=_schema(),
            defaults=self._defaults,
        )

    # The course of it ----------------------------------------------------------------------------

    @property
    def virtual_ns(self) -> int:
        """How long it has taken by its own clock."""
        return self._clock.time_ns() - self._started_ns

    def close(self) -> None:
        """Let go of what handlers still hold."""
        for worker in self._workers:
            worker.lose()

    def run(self) -> None:
        """From the first request to the last check. Raises InvariantViolation."""
        chance = self._chance
        for _ in range(chance.between(60, 250)):
            drawn = chance.fraction()
            if drawn < self._rare:
                self._disturb(drawn)
            self._clock.advance(chance.bits(17))
            moves = self._moves()
            if moves and drawn < 0.97:
                chance.pick(moves)()
            elif self._requests:
                self._ask_for(self._requests.pop())
            else:
                self._pass_time(chance.between(1, 500) * _MS)
                self._thaw_some()
        self._settle()
        self._check_end()

    def _disturb(self, drawn: float) -> None:
        """Somebody outside does something, or something breaks."""
        if drawn < self._outsiders:
            self._note(self.outside.operate_at_random(self.node))
        elif drawn < 2 * self._outsiders:
            self.outside.complete_something(self.node)
        elif drawn < 3 * self._outsiders and self._requests:
            self._ask_for(self._requests.pop())
        elif drawn >= 3 * self._outsiders:
            self._fault()

    def _note(self, line: str) -> None:
        self.lines.append(f"{self._clock.time_ns() // 1000 % 10**9:>9} {line}")

    def _ask_for(self, request: Any) -> None:
        client = self.outside.add(request)
        self._note(f"asks for {client.command.invocation_id.hex()}: {request}")
        client.ask(self.node)

    def _settle(self) -> None:
        """No more faults: everything must come to its end."""
        for worker in self._workers:
            worker.frozen = False
        while self._requests:
            self._ask_for(self._requests.pop())
        until_ns = self._clock.time_ns() + _SETTLING_NS_MAX
        for _ in range(_STEPS_MAX):
            moves = self._moves()
            if moves:
                self._chance.pick(moves)()
                continue
            if self._is_settled():
                return
            if self.node.leading and not any(each.messages_left for each in self.observers):
                check_wakers(self.observers)
            if not self._help():
                self._pass_time(1_000 * _MS)
            if self._clock.time_ns() > until_ns:
                break
        self._complain()

    def _is_settled(self) -> bool:
        if any(observer.unfinished() for observer in self.observers):
            return False
        if self.outside.unanswered():
            return False
        return not any(observer.messages_left for observer in self.observers)

    def _help(self) -> bool:
        """Do what only the outside can; whether there was anything."""
        before = (self.outside.operations, len(self.outside.clients))
        self.outside.complete_all(self.node)
        self.outside.resume_all(self.node)
        asking = [client for client in self.outside.unanswered() if not client.asked]
        for client in asking:
            client.ask(self.node)
        return bool(asking) or before != (self.outside.operations, len(self.outside.clients))

    def _complain(self) -> None:
        left = [
            f"partition {number}: {invocation_id.hex()} {row.service}/{row.handler} {row.key} "
            f"{STATUS_NAMES[row.status]}, waits for {row.waiting}"
            for number, observer in enumerate(self.observers)
            for invocation_id, row in observer.unfinished()
        ]
        require(not left, FINISHES, "\n".join(left))
        waiting = [client.command for client in self.outside.unanswered()]
        require(False, ANSWERED, f"{waiting or 'messages are left in an outbox'}")

    # Moves ---------------------------------------------------------------------------------------

    def _moves(self) -> list[Callable[[], None]]:
        """Everything that could happen next, timers apart."""
        node = self.node
        moves: list[Callable[[], None]] = []
        if node.loop.ready:
            moves.append(node.loop.turn)
        for log in self.logs:
            if log.in_flight:
                moves.append(self._commit)
            elif not log.accepting:
                moves.append(log.open_segment)
        for number, worker in enumerate(self._workers):
            if worker.frozen:
                continue
            link = worker.link
            if link is None or not link.open:
                moves.append(partial(self._connect, number))
                continue
            if link.to_worker:
                moves.append(worker.receive)
            if link.to_node:
                moves.append(partial(self._deliver, number))
            if worker.steps:
                moves.append(partial(self._run_step, worker))
            if worker.drained:
                moves.append(partial(self._cut, number))
        return moves

    def _commit(self) -> None:
        """A turn of the writer: some of what is in flight is durable, in one batch or two."""
        chance = self._chance
        for log in self.logs:
            if log.in_flight and chance.happens(0.7):
                for _ in range(chance.between(1, 2)):
                    if log.in_flight:
                        log.commit(chance.between(1, len(log.in_flight)))
        self.node.finish_turn()
        if chance.happens(0.03):
            chance.pick(self.node.manager.processors).drivers.shipments.truncate_taken()

    def _deliver(self, number: int) -> None:
        link = self._workers[number].link
        assert link is not None
        self.node.received(number, link.to_node.popleft())

    def _run_step(self, worker: HistoryWorker) -> None:
        worker.run_step(self._chance.between(0, len(worker.steps) - 1))

    def _connect(self, number: int) -> None:
        worker = self._workers[number]
        if worker.link is not None:
            worker.lose()
        link = Link()
        worker.connect(link)
        self.node.accept(number, self._hellos[number], link)

    def _pass_time(self, longest_ns: int = RETENTION_NS) -> None:
        """Let the next timer be due, unless that is too far away."""
        wait_ns = longest_ns
        due_ns = self.node.loop.next_due_ns()
        if due_ns is not None:
            wait_ns = min(max(due_ns - self._clock.time_ns(), 0), longest_ns)
        self._clock.advance(wait_ns)
        self.node.pass_time(wait_ns)

    # Faults --------------------------------------------------------------------------------------

    def _fault(self) -> None:
        chance = self._chance
        what = chance.between(0, 9)
        number = chance.between(0, len(self._workers) - 1)
        worker = self._workers[number]
        if what < 2:
            self._crash(power=chance.happens(0.5))
        elif what < 3:
            self._cut(number)
        elif what < 7:
            worker.frozen = not worker.frozen
            self._note(f"worker {number} {'freezes' if worker.frozen else 'thaws'}")
        elif what < 8:
            self._note("a log is sealed")
            chance.pick(self.logs).seal()
        elif what < 9:
            self.node.store.sync()
            self._drain_worker(number)
        elif self.outside.clients:
            client = chance.pick(self.outside.clients)
            self._note(f"asks again for {client.command.invocation_id.hex()}")
            (client.ask if chance.happens(0.6) else client.attach)(self.node)

    def _drain_worker(self, number: int) -> None:
        worker = self._workers[number]
        if worker.link is not None and worker.link.open and not worker.draining:
            self._note(f"worker {number} drains")
            worker.drain()

    def _thaw_some(self) -> None:
        """Workers that were frozen go on, and send what they had not sent in time."""
        for worker in self._workers:
            if worker.frozen and self._chance.happens(0.3):
                worker.frozen = False

    def _crash(self, *, power: bool) -> None:
        self._note("the node loses its power" if power else "the node is killed")
        for log in self.logs:
            log.crash(self._chance.between(0, len(log.in_flight)))
        for worker in self._workers:
            if worker.link is not None:
                worker.link.cut()
        store = self.node.store
        survivor = store.crash(self._chance) if power else store.reopen()
        self.outside.node_crashed()
        self.node = self._start(survivor)

    def _cut(self, number: int) -> None:
        link = self._workers[number].link
        if link is not None and link.open:
            self._note(f"worker {number} is cut off")
            link.cut()
            self.node.lose(number)

    # The end -------------------------------------------------------------------------------------

    def _check_end(self) -> None:
        self._drain()
        self._check_answers()
        self.observers[0].check_settled()
        for observer in self.observers:
            observer.check_journals()
        self._check_rows()
        until_ns = self._clock.time_ns() + 2 * RETENTION_NS
        while self._clock.time_ns() < until_ns:
            self._pass_time()
            self._drain()
        self.observers[0].check_empty()
        self._check_rows()

    def _drain(self) -> None:
        while moves := self._moves():
            self._chance.pick(moves)()

    def _check_rows(self) -> None:
        ours = dict(self.node.store.scan(b"", b"\xff"))
        replayed = dict(self.observers[0].store.scan(b"", b"\xff"))
        differing = sorted(
            key for key in ours.keys() | replayed.keys() if ours.get(key) != replayed.get(key)
        )
        require(not differing, SAME_DIGEST, f"rows differ: {differing[:3]}")

    def _check_answers(self) -> None:
        """What calls gave is what the called invocations came to."""
        for answer in self.stage.answers:
            text = answer.split(b"|")[0].decode()
            invocation_id = parse_invocation_id(text)
            number = partition_of(partition_key_of(invocation_id), len(self.observers))
            results = self.observers[number].results.get(invocation_id, [])
            known = any(output == answer for output, _ in results)
            require(known, ONCE, f"a call of {text} gave {answer!r}, it came to {results}")
