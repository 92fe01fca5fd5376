"""The model's world: one seeded schedule of messages, timers and faults over real admission.

Three log-servers with a write quorum of two; sequencers that die, are cut off or go on as
zombies; messages that are lost, late, doubled and out of order; clients that resend; trims and one
lost disk. Everything is plain calls and the next event is the earliest one: one seed, one run.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from perdure.core.ids import LogId
from perdure.log.chain import Segment, SegmentParams, first_chain
from perdure.log.sequencer import SequencerLimits

from .checkers import History, Violation
from .clients import Client, ConditionalClient, LocalClient, UnconditionalClient
from .loglet import SequencerNode
from .producers import ProducerClient
from .reconfiguration import Reconfiguration
from .servers import SERVERS, WRITE_QUORUM, LogServer
from .view import View

FAULTS_UNTIL = (160.0, 260.0, 380.0)
"""When load and faults stop, one of these; a message takes about two units of time."""

PATIENCE = 4000.0
"""After the faults everything has to be resolved within this time."""

TABLE_KEYS_MAX = 4
LOG = LogId(1)


@dataclass(frozen=True)
class Rules:
    """How the modelled parts behave; a mutation changes one of these."""

    holes_are_accepted: bool = False
    seal_is_ignored: bool = False
    repair_is_skipped: bool = False
    lost_disks_are_counted: bool = False
    write_quorum: int = WRITE_QUORUM
    conflict_is_always_final: bool = False
    first_attempts_are_doubled: bool = False
    producers_name_no_segment: bool = False
    # Invariants that are counted instead of ending the run.
    tolerated: frozenset[str] = field(default_factory=frozenset)


class World:
    """One run. `run` ends when everything is resolved, or raises Violation."""

    def __init__(self, seed: int, rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self.random = random.Random(seed)
        self.now = 0.0
        self.faults = True
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._scheduled = 0
        self.trace: deque[tuple[float, str, tuple[object, ...]]] = deque(maxlen=300)
        self.tolerated: list[str] = []
        self.history = History(self.report)
        self.limits = SequencerLimits(
            condition_entries_max=TABLE_KEYS_MAX,
            records_in_flight_max=6 if self.chance(0.2) else 1000,
        )
        self.faults_until = self.random.choice(FAULTS_UNTIL)
        self.loss = self.random.choice((0.0, 0.1, 0.2))
        self.servers = [LogServer(self, number) for number in range(SERVERS)]
        self.chain = first_chain("model", SegmentParams(1, 1, 0))
        self.nodes: dict[int, SequencerNode] = {}
        self.reconfigurations = 0
        self.trims = 0
        self.trimmed_lsn = 0
        self.store = View(self.history)
        self.restored = self.store.snapshot()
        self._open(self.chain.tail)
        self.clients: list[Client] = []
        self._add_clients()
        self._plan_faults()

    def _add_clients(self) -> None:
        kinds: list[type[Client]] = [ConditionalClient, ConditionalClient, ConditionalClient]
        for kind, likely in (
            (UnconditionalClient, 0.6),
            (LocalClient, 0.5),
            (ProducerClient, 0.6),
            (ProducerClient, 0.2),
        ):
            if self.chance(likely):
                kinds.append(kind)
        if self.chance(0.3):
            kinds.append(UnconditionalClient)
        self.clients += [kind(self, number) for number, kind in enumerate(kinds, 1)]

    # Schedule ------------------------------------------------------------------------------------

    def chance(self, likely: float) -> bool:
        """Yes, so often."""
        return self.random.random() < likely

    def later(self, delay: float, call: Callable[..., object], *args: object) -> None:
        """Call after a delay, whatever happens."""
        self._scheduled += 1
        heapq.heappush(self._heap, (self.now + delay, self._scheduled, call, args))

    def delay(self) -> float:
        """How long a message takes: mostly a little, at times as long as a reconfiguration."""
        fraction = self.random.random()
        if fraction < 0.92 or not self.faults:
            return 0.5 + 3 * fraction
        return 8 + 60 * self.random.random()

    def send(self, call: Callable[..., object], *args: object) -> None:
        """A message between parts that stand it lost, doubled, late and out of order."""
        if self.faults and self.loss:
            fraction = self.random.random()
            if fraction < self.loss:
                return
            if fraction > 0.97:
                self.later(self.delay(), call, *args)
        self.later(self.delay(), call, *args)

    def log(self, text: str, *args: object) -> None:
        """Add to the trace."""
        self.trace.append((self.now, text, args))

    def report(self, invariant: str, text: str) -> None:
        """An invariant does not hold: end the run, unless it is tolerated."""
        if invariant not in self.rules.tolerated:
            raise Violation(invariant, text)
        self.tolerated.append(text)

    def run(self) -> None:
        """Until everything is resolved. Raises Violation."""
        self._run_until(self.faults_until)
        self._heal()
        deadline = self.now + PATIENCE
        while any(client.busy for client in self.clients):
            if self.now > deadline or not self._heap:
                stuck = [client.status() for client in self.clients if client.busy]
                self.report("C8", f"nothing ends any more: {stuck}")
                break
            self._run_until(self.now + 50)
        self._run_until(self.now + 200)
        self._check()

    def _run_until(self, end: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, call, args = heapq.heappop(heap)
            self.events += 1
            call(*args)
        self.now = end

    # Faults --------------------------------------------------------------------------------------

    def _plan_faults(self) -> None:
        uniform = self.random.uniform
        for _ in range(self.random.randint(2, int(self.faults_until / 25))):
            self.later(uniform(5, self.faults_until), self._reconfigure)
        for _ in range(self.random.randint(0, 3)):
            self.later(uniform(5, self.faults_until), self._crash_server)
        for _ in range(self.random.randint(0, 3)):
            self.later(uniform(5, self.faults_until), self._hurt_sequencer)
        for _ in range(self.random.randint(0, 4)):
            self.later(uniform(30, self.faults_until), self._trim)
        # One server only, at times more than once: two could take the last copies with them.
        if self.chance(0.35) or self.rules.lost_disks_are_counted:
            server = self.random.choice(self.servers)
            for _ in range(self.random.randint(1, 3)):
                self.later(uniform(10, self.faults_until), self._lose_disk, server)

    def _reconfigure(self) -> None:
        Reconfiguration(self, self.chain.tail)

    def _crash_server(self) -> None:
        server = self.random.choice(self.servers)
        if server.up:
            self.log("server {} stops", server.number)
            server.up = False
            self.later(self.random.uniform(10, 60), self._restart_server, server)

    def _restart_server(self, server: LogServer) -> None:
        server.up = True

    def _hurt_sequencer(self) -> None:
        """Kill it, or cut it off so that it goes on as a zombie; somebody takes over."""
        node = self.nodes[self.chain.tail.index]
        if self.chance(0.5):
            self.log("sequencer of segment {} dies", node.segment.index)
            node.alive = False
        else:
            self.log("sequencer of segment {} is cut off", node.segment.index)
            node.cut = True
        self.later(self.random.uniform(3, 30), self._reconfigure)

    def _lose_disk(self, server: LogServer) -> None:
        self.log("server {} loses its disk", server.number)
        server.lose_disk(0 if self.rules.lost_disks_are_counted else self.chain.tail.index)

    def _trim(self) -> None:
        """Keep a snapshot of the store, then drop what it covers."""
        self.read(self.store)
        last_lsn = self.store.applied_lsn
        if last_lsn <= self.trimmed_lsn:
            return
        self.restored = self.store.snapshot()
        self.trimmed_lsn = last_lsn
        self.trims += 1
        self.log("trimmed up to LSN {}", last_lsn)
        for index, node in self.nodes.items():
            end = self.history.ends.get(index, last_lsn + 1)
            offset = node.segment.offset_of(min(last_lsn, end - 1))
            for server in self.servers:
                if offset >= 1:
                    self.send(server.trim, index, offset)
        self.chain = self.chain.trim(last_lsn)

    def _heal(self) -> None:
        self.faults = False
        for server in self.servers:
            server.up = True
        tail = self.chain.tail.index
        for index, node in self.nodes.items():
            node.cut = False
            if index != tail:
                self.later(self.delay(), self._close, node)
        node = self.nodes[tail]
        if (
            not node.alive
            or node.closed
            or any(
                server.replicas[tail].sealed for server in self.servers if tail in server.replicas
            )
        ):
            self._reconfigure()

    # The chain -----------------------------------------------------------------------------------

    def _open(self, segment: Segment) -> None:
        self.nodes[segment.index] = SequencerNode(self, segment)

    def _close(self, node: SequencerNode) -> None:
        node.close(lost=False)

    def extend(self, segment: Segment, final_tail: int, *, by_sequencer: bool) -> None:
        """Compare-and-set of the chain: the first one to end a segment decides its tail."""
        if self.chain.tail.index != segment.index:
            return
        end_lsn = segment.lsn_of(final_tail)
        params = SegmentParams(segment.index + 1, segment.params.epoch + 1, int(self.now))
        self.chain = self.chain.extend(LOG, end_lsn, "model", params)
        self.reconfigurations += 1
        self.log("segment {} ends before LSN {}", segment.index, end_lsn)
        self.history.extended(segment, end_lsn)
        node = self.nodes[segment.index]
        if by_sequencer and not node.cut:
            node.finish(final_tail)
        elif not self.faults or self.chance(0.4):
            self.later(self.delay(), self._close, node)
        self._open(self.chain.tail)

    def deliver(self, target: int | None, call: Callable[[SequencerNode], None]) -> None:
        """A message to the sequencer of a segment, or of whichever is the last one."""
        node = self.nodes.get(self.chain.tail.index if target is None else target)
        if node is not None and node.alive:
            call(node)

    # Reading -------------------------------------------------------------------------------------

    def read(self, view: View, known_lsn: int = 0, *, surely: bool = False) -> None:
        """Let a reader go on as far as the servers and what it knows of the tail let it.

        Args:
            known_lsn: the committed tail that a sequencer has told the reader.
            surely: ask every server how far it is, not just one.
        """
        while True:
            if view.next_lsn <= self.trimmed_lsn:
                view.restore(self.restored)
            position = self.chain.position_of(view.next_lsn)
            segment = self.chain.segments[position]
            end = self.chain.end_of(position)
            if end is None:
                asked = self.servers if surely else (self.random.choice(self.servers),)
                end = known_lsn
                for server in asked:
                    replica = server.replica(segment.index)
                    if replica is not None:
                        end = max(end, segment.lsn_of(replica.known))
            if view.next_lsn >= end or not self._read_batch(view, segment, end):
                return

    def _read_batch(self, view: View, segment: Segment, end: int) -> bool:
        offset = segment.offset_of(view.next_lsn)
        for server in self.servers:
            replica = server.replica(segment.index)
            batch = None if replica is None else replica.batches.get(offset)
            if batch is not None:
                if segment.lsn_of(batch.last_offset) >= end:
                    raise Violation("L11", f"LSN {end} lies within the batch at {view.next_lsn}")
                self.history.saw(segment, batch)
                view.apply(batch)
                return True
        return False

    # The end -------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Read everything that is left, then look at the whole log."""
        reader = self.restored.snapshot() if self.trimmed_lsn else View(self.history)
        tail = self.nodes[self.chain.tail.index].sequencer.committed_tail_lsn
        self.read(reader, tail, surely=True)
        if reader.next_lsn < max(tail, self.history.tail):
            raise Violation("L3", f"LSN {reader.next_lsn} is committed and cannot be read")
        self.history.check(self.nodes)

    def trace_text(self, lines: int = 60) -> str:
        """The last events, readable."""
        return "\n".join(
            f"{now:9.2f}  {text.format(*args)}" for now, text, args in list(self.trace)[-lines:]
        )
