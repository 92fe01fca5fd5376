"""A world: one node, its workers and its clients on one virtual clock, with faults by seed."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from ...core.errors import PerdureError
from ...core.storage.kv import PutOrDelete
from ...core.tasks import TaskScope
from ...ingress.requests import Accepted, CallReply, Completed, PendingReply, SendReply
from .chance import Chance
from .checkers import check_answer, check_survival
from .clients import Client
from .damage import Damage, lose_batch
from .disk import SimulationDisk
from .faults import DEPLOYMENTS, Faults
from .files import SimulationFiles
from .log_clients import LogClients
from .log_life import RawLog
from .loop import SimulationClock, SimulationLoop
from .network import SimulationNetwork
from .node import NODE, SimulatedNode, node_options
from .observer import LogObserver, LogRecord, durably_applied_lsn
from .trace import Trace
from .violation import InvariantViolation, require
from .worker import SimulatedWorker
from .workload import MS, History, Operation, OperationMaker, make_app

DISKS: Final = ("metadata", "store", "log")
FAULTS_NS: Final = 1_500 * MS
"""How long faults go on; afterwards everything heals."""

END_NS: Final = 60_000 * MS
"""By then everything must be finished: faults end early and no wait of a node or worker is long."""


@dataclass(frozen=True, slots=True)
class WorldOptions:
    """What a world is like, where its seed does not decide.

    Attributes:
        clients_max: at most so many clients, at least one.
        operations_max: at most so many operations per client, at least three.
        faults: whether anything breaks at all.
        fault_kinds: names of faults, see `faults.Faults`; None has each seed choose.
        abort_timeout: of the nodes; None has each seed choose.
        bare_log: whether there is a second log, which its clients use directly.
        snapshots: whether snapshots are taken, and the partition store may be lost for good.
        end_ns: by when everything must be finished.
        alter_node: called with each node before it starts; tests break the product with it, to see
            that a world finds out.
    """

    clients_max: int = 4
    operations_max: int = 10
    faults: bool = True
    fault_kinds: tuple[str, ...] | None = None
    abort_timeout: str | None = None
    bare_log: bool = True
    snapshots: bool = False
    end_ns: int = END_NS
    alter_node: Callable[[SimulatedNode], None] | None = None


class World:
    """Everything that runs in one seed.

    Attributes:
        node: the node that is up or starting, None between two of its lives.
        disks: what the node stores on, by name.
        files: what snapshots are kept on, of the same machine.
        history: what clients asked and were told.
        observer: sees the partition's log from outside.
        raw: a second log on the same disk, with nobody but its clients.
        damage: what the partition's log has lost on its disk, None while all is there.
        raw_clients: those, None where there are none.
        lives: how often the node was started.
    """

    def __init__(self, seed: int, options: WorldOptions, loop: SimulationLoop) -> None:
        """Draw the world's character from the seed."""
        self.seed = seed
        self.options = options
        self.loop = loop
        self.trace = Trace(loop)
        self.history = History()
        character = self.chance("character")
        slow_ns = character.pick((0, 1 * MS, 10 * MS))
        self.network = SimulationNetwork(
            loop,
            trace=self.trace,
            chance=self.chance("network"),
            delay_ns=(character.pick((0, 50_000)), slow_ns + 100_000),
            cut_heard_ns_max=character.pick((0, 5 * MS, 200 * MS)),
            on_failure=self._task_failed,
        )
        self.clock = SimulationClock(loop)
        sync_delay_ns_max = character.pick((100_000, 2 * MS, 20 * MS))
        self.disks = {
            name: SimulationDisk(
                name,
                trace=self.trace,
                chance=self.chance(f"disk {name}"),
                sync_delay_ns_max=sync_delay_ns_max,
            )
            for name in DISKS
        }
        self._node_options = node_options(
            character.pick(("always", "never")),
            character.pick(("20ms", "100ms", "10s")),
            character.pick(("20ms", "60s")) if options.abort_timeout is None else "20ms",
            options.abort_timeout or character.pick(("150ms", "1s", "10m")),
            snapshot_records=character.pick((4, 15, 60)) if options.snapshots else 0,
        )
        self.files = SimulationFiles()
        self.observer = LogObserver()
        app = make_app(loop, self.chance("steps"), self.trace)
        self.workers = [
            SimulatedWorker(f"worker-{number}", app, network=self.network, seed=seed)
            for number in range(1, character.between(2, 3) + 1)
        ]
        self.maker = OperationMaker(loop, self.chance("operations"))
        self.clients = [
            Client(name, self, character.between(3, options.operations_max), self.chance(name))
            for name in [
                f"client-{number}"
                for number in range(1, character.between(1, options.clients_max) + 1)
            ]
        ]
        self.node: SimulatedNode | None = None
        self.healed = not options.faults
        self.scope = TaskScope("world", on_failure=self._task_failed)
        self.raw = RawLog(
            loop,
            trace=self.trace,
            scope=self.scope,
            disks=lambda: self.disks,
            on_failure=self._task_failed,
        )
        self._watch_disks()
        self.raw_clients: LogClients | None = None
        if options.bare_log:
            self.raw_clients = LogClients(self.raw, self.chance, self.network, options.faults)
        self.damage: Damage | None = None
        self.lives = 0
        self._ending = False
        self._down = asyncio.Event()
        self._over = asyncio.Event()
        self._waiting: dict[int, Callable[[], None]] = {}
        self._asked = 0

    def _watch_disks(self) -> None:
        self.disks["metadata"].on_write = self._metadata_written
        self.disks["log"].on_write = self.raw.observer.log_written
        self.disks["log"].on_delete = self._log_deleted

    def chance(self, concern: str) -> Chance:
        """The generator of one concern."""
        return Chance(self.seed, concern)

    def _task_failed(self, failure: BaseException) -> None:
        self.loop.call_exception_handler({"message": "a task failed", "exception": failure})

    @contextmanager
    def _first_violation(self) -> Iterator[None]:
        """Within calls from the product, which may turn what is raised into something else."""
        try:
            yield
        except InvariantViolation as violation:
            self._task_failed(violation)
            raise

    # The node ------------------------------------------------------------------------------------

    async def keep_node_running(self) -> None:
        """Start the node, and start it again whenever it is gone, until `end_node`."""
        chance = self.chance("restarts")
        while not self._ending:
            self.lives += 1
            self._down.clear()
            node = SimulatedNode(
                self._node_options,
                disks=self.disks,
                network=self.network,
                clock=self.clock,
                chance=self.chance(f"node/{self.lives}"),
                on_failure=self._node_failed,
                files=self.files,
                alter=self.options.alter_node,
                generation=self.lives,
            )
            self.node = node
            self.trace.add(NODE, f"starts, life {self.lives}")
            life = self.scope.spawn(self._start(node), name=f"node {self.lives}")
            await self._down.wait()
            life.cancel()
            await asyncio.wait([life])
            await self.loop.pause(chance.between(1, 100) * MS)

    async def _start(self, node: SimulatedNode) -> None:
        try:
            await node.start()
            await self.raw.start(node)
        except PerdureError as error:
            self._node_failed(node, error)
            return
        self.trace.add(NODE, f"leads, applied LSN and tail {node.positions()}")
        self.check_positions()

    def _node_failed(self, node: SimulatedNode, error: PerdureError) -> None:
        """The engine has given up by itself: right when a disk failed, wrong otherwise."""
        if node is not self.node:
            return
        self.trace.add(NODE, f"fails: {error.code} {error}")
        if self.damage is not None and self.damage.explains(error):
            # Nobody can mend that; the node stays down.
            self._over.set()
            return
        with self._first_violation():
            require(
                any(disk.faulty for disk in self.disks.values()),
                "a node fails only with its disk",
                f"{error.code} {error}",
            )
        # Its process ends a moment later; what it does until then must be harmless.
        power = self.chance(f"failure/{self.lives}").happens(0.5)
        self.loop.call_at_ns(self.loop.now_ns + 2 * MS, partial(self._crash_node, node, power))

    def _crash_node(self, node: SimulatedNode, power: bool) -> None:
        if node is self.node:
            self.crash(power=power)

    def power_out(self) -> None:
        """The machine loses its power within an operation of one of its disks."""
        assert self.node is not None
        for disk in self.disks.values():
            disk.cut_power()
        self.loop.call_soon(self._crash_node, self.node, True)

    def crash(self, *, power: bool) -> None:
        """End the node at once, and lose unsynced writes when the power goes with it."""
        node = self.node
        if node is None:
            return
        self.trace.add(NODE, "loses its power" if power else "is killed")
        self.check_positions()
        committed = self._committed(node)
        raw_committed = self.raw.committed()
        self.node = None
        self.raw.crashed()
        unwind = node.abort()
        if unwind is not None:
            self.scope.spawn(unwind(), name="unwind")
        self.disks = {
            name: disk.after_power_loss() if power else disk.after_restart()
            for name, disk in self.disks.items()
        }
        if power:
            self.files = self.files.crash(self.chance(f"files/{self.lives}"))
        waiting, self._waiting = self._waiting, {}
        for lose in waiting.values():
            lose()
        found = self.observer.read(self.disks["log"].rows())
        check_survival(committed, found, self.history)
        self.raw.check_survival(raw_committed)
        self._down.set()

    def lose_batch(self, chance: Chance) -> None:
        """Lose a batch of the partition's log that it needs again, if there is one."""
        if self.damage is not None or self.node is None:
            return
        applied_lsn = durably_applied_lsn(self.disks["store"])
        disk = self.disks["log"]
        self.damage = lose_batch(disk, self.observer, chance, above_lsn=applied_lsn)
        if self.damage is not None:
            self.crash(power=True)

    def lose_store(self) -> None:
        """Lose the disk of the partition store, and go on with an empty one."""
        self.crash(power=True)
        self.disks["store"] = self.disks["store"].replaced()

    def _committed(self, node: SimulatedNode) -> list[LogRecord]:
        """What the node has told to be committed, as its disk shows it."""
        positions = node.positions()
        if positions is None:
            return []
        records = self.observer.read(self.disks["log"].rows())
        return [item for item in records if item.lsn < positions[1]]

    def _log_deleted(self, rows: dict[bytes, bytes]) -> None:
        with self._first_violation():
            self.observer.log_deleted(rows, durably_applied_lsn(self.disks["store"]))
            self.raw.deleted(rows)

    def _metadata_written(self, operations: list[PutOrDelete]) -> None:
        self.observer.metadata_written(operations)
        self.raw.observer.metadata_written(operations)

    def check_positions(self) -> None:
        """The partition works, and is never ahead of what its log has committed."""
        node = self.node
        if node is not None:
            positions = node.positions()
            require(
                positions is None or positions[0] < positions[1],
                "applied LSN below the committed tail",
                f"applied and tail {positions}",
            )
            if not any(disk.faulty for disk in self.disks.values()):
                require(not node.stopped_by(), "no partition stops by itself", node.stopped_by())

    async def end_node(self) -> None:
        """End the node in good order."""
        assert self.node is not None
        self._ending = True
        await self.node.close()

    # Clients' requests ---------------------------------------------------------------------------

    async def ask(
        self, operation: Operation, patience_ns: int
    ) -> Completed | Accepted | PerdureError | None:
        """Send a request over the network and wait; None when the answer is lost.

        Gives the error of a refusal.
        """
        loop = self.loop
        future: asyncio.Future[CallReply | SendReply | PerdureError | None] = loop.create_future()
        self._asked += 1
        number = self._asked
        pending: list[PendingReply] = []

        def settle(reply: CallReply | SendReply | PerdureError | None) -> None:
            if not future.done():
                future.set_result(reply)

        def lose() -> None:
            loop.call_at_ns(loop.now_ns + self.network.delay_ns(), settle, None)

        def arrive() -> None:
            node = self.node
            if node is None or not node.leading or node.engine is None:
                lose()
                return

            def replied(reply: CallReply | SendReply) -> None:
                if node is self.node and self._waiting.pop(number, None) is not None:
                    self._note_reply(operation, reply)
                    loop.call_at_ns(loop.now_ns + self.network.delay_ns(), settle, reply)

            self._waiting[number] = lose
            dispatcher = node.engine.dispatcher
            try:
                if operation.wait:
                    pending.append(dispatcher.call(operation.request, replied))
                else:
                    pending.append(dispatcher.send(operation.request, replied))
            except PerdureError as error:
                del self._waiting[number]
                loop.call_at_ns(loop.now_ns + self.network.delay_ns(), settle, error)

        loop.call_at_ns(loop.now_ns + self.network.delay_ns(), arrive)
        impatience = loop.call_at_ns(loop.now_ns + patience_ns, settle, None)
        reply = await future
        impatience.cancel()
        if reply is None and self._waiting.pop(number, None) is not None and pending:
            pending[0].forget()
        if isinstance(reply, Completed | Accepted | PerdureError) or reply is None:
            return reply
        return reply.error

    def _note_reply(self, operation: Operation, reply: CallReply | SendReply) -> None:
        """The node has answered: from here on it must never take that back."""
        with self._first_violation():
            self.check_positions()
            if isinstance(reply, Completed):
                check_answer(operation, reply)
        now_ns = self.loop.now_ns
        if isinstance(reply, Completed):
            if operation.answered_ns is None:
                operation.answered_ns = now_ns
                operation.value = reply.value
        elif not isinstance(reply, Accepted):
            self.trace.add(operation.name, f"refused: {reply.error.code} {reply.error}")
            return
        self.trace.add(
            operation.name,
            f"answered: {reply.value!r}" if isinstance(reply, Completed) else "accepted",
        )
        if operation.accepted_ns is None:
            operation.accepted_ns = now_ns
            operation.invocation_id = reply.invocation_id

    # Workers -------------------------------------------------------------------------------------

    def start_worker(
        self, worker: SimulatedWorker, chance: Chance, deployment: str | None = None
    ) -> None:
        """Begin a life of a worker, of one of the deployments unless told which."""
        shift_ns = chance.pick((0, 0, -3_000 * MS, 3_000 * MS))
        worker.start(self.scope, deployment or chance.pick(DEPLOYMENTS), shift_ns)

    # The whole -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Live: start, work under faults, heal, finish, end. Raises InvariantViolation.

        A world whose partition has lost a batch ends when its node says so.
        """
        live = self.scope.spawn(self._live(), name="live")
        over = self.scope.spawn(self._over.wait(), name="over")
        await asyncio.wait([live, over], return_when=asyncio.FIRST_COMPLETED)
        if self.ended_early and self.node is not None:
            self.raw.crashed()
            self.node.abort()
        if self.raw_clients is not None:
            await self.raw_clients.end()
        await self.scope.close()

    @property
    def ended_early(self) -> bool:
        """Whether the node is down for ever, as its log has lost something."""
        return self._over.is_set()

    async def _live(self) -> None:
        keeper = self.scope.spawn(self.keep_node_running(), name="keeper")
        workers_chance = self.chance("workers")
        for worker in self.workers:
            self.start_worker(worker, workers_chance)
        await self._until_known()
        clients = [self.scope.spawn(client.run(), name=client.name) for client in self.clients]
        raw_clients = self.raw_clients.begin() if self.raw_clients is not None else []
        faults = Faults(
            self,
            self.chance("faults"),
            self.options.fault_kinds,
            store_may_be_lost=self.options.snapshots,
        )
        if self.options.faults:
            await faults.run(FAULTS_NS, [*clients, *raw_clients])
        await faults.heal()
        self.healed = True
        self.trace.add("world", "faults are over")
        await asyncio.wait(clients)
        if self.raw_clients is not None:
            await self.raw_clients.finish(raw_clients)
        await self._ask_again()
        for worker in self.workers:
            await worker.end()
        self.raw.crashed()
        await self.end_node()
        keeper.cancel()

    async def _until_known(self) -> None:
        """Until a worker has announced the services, which the node then remembers for ever."""
        while (
            self.node is None
            or self.node.engine is None
            or not (self.node.leading and self.node.engine.dispatcher.service_names())
        ):
            await self.loop.pause(1 * MS)

    async def _ask_again(self) -> None:
        """Ask for every result once more; what was answered must come out the same."""
        for operation in self.history.operations:
            operation.wait = True
            while not isinstance(reply := await self.ask(operation, END_NS), Completed):
                # A disk that failed before the end of faults may still bring its node down.
                if isinstance(reply, PerdureError):
                    require(reply.retryable, "a healthy node answers", f"{operation.name}: {reply}")
                await self.loop.pause(10 * MS)
