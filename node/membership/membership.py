"""Membership: the failure detector on the Transport port, and what others may ask of it.

Each node dials every other: over that connection it sends gossip and nothing comes back but the
answer to its greeting. What it hears comes over connections that others dialled. One task per
dialled connection, none per message; every timer is the tick.
"""

import asyncio
from collections.abc import Callable
from typing import Final, assert_never

import msgspec
import structlog

from ...core.clock import Clock
from ...core.errors import (
    MalformedMessageError,
    NobodyListensError,
    PerdureError,
    TransportError,
)
from ...core.net.transport import Connection, Transport
from ...core.random import Random
from ...core.tasks import TaskScope
from ...metadata.nodes import NodeConfiguration, NodesConfiguration
from ..cluster.errors import FingerprintError, NodeRemovedError, SupersededError
from .clocks import ClockOffsets
from .detector import FailureDetector
from .events import (
    Changed,
    Configured,
    Dial,
    Effect,
    Event,
    Leave,
    Lost,
    Met,
    Newer,
    PlacementSeen,
    Received,
    Refused,
    Send,
    Superseded,
    Tick,
    Unanswered,
    Unheard,
)
from .messages import (
    MEMBERSHIP_SERVICE,
    Gossip,
    Hello,
    Turned,
    Welcome,
    decode_message,
    encode_message,
)
from .peer import DetectorOptions
from .view import MembershipView

DIAL_TICKS_MAX: Final = 20
"""A greeting that is not answered in so many ticks is given up."""

QUEUED_BYTES_MAX: Final = 64 * 1024
"""A peer that leaves so much unread is told nothing more until it has read."""

LATEST_AHEAD_NS_MAX: Final = 30 * 24 * 3600 * 1_000_000_000
"""A clock that is further ahead than a month is followed by nobody."""

_DRAW_BITS: Final = 64

_log = structlog.get_logger("membership")


class _Link:
    """A dialled connection, from the attempt to its end."""

    __slots__ = ("connection", "dialled_at_tick", "generation", "task")

    def __init__(self, generation: int, dialled_at_tick: int) -> None:
        self.generation = generation
        self.dialled_at_tick = dialled_at_tick
        self.connection: Connection | None = None
        self.task: asyncio.Task[None] | None = None


class Membership:
    """Who lives, as this node sees it, from `start` to `stop`.

    Attributes:
        nodes: the newest nodes configuration that this node has.
        nodes_version: of that.
        schema_version: gives that of the deployments that this node knows; set before `start`.
        own_latest_ns: gives the latest time of a record that is here; set before `start`.
        latest_ns: the latest time of a clock or a record of other nodes that was heard of.
        own_applied: gives how far this node is with its partitions; set before `start`.
        own_stopped: gives which of its copies have stopped, see `Gossip`; set before `start`.
    """

    def __init__(
        self,
        me: NodeConfiguration,
        *,
        nodes_version: int,
        nodes: NodesConfiguration,
        transport: Transport,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        random: Random,
        scope: TaskScope,
        on_newer: Callable[[int, int], None],
        on_ended: Callable[[PerdureError], None],
        options: DetectorOptions | None = None,
    ) -> None:
        """Prepare; nothing is sent before `start`.

        Args:
            me: this node as it has joined.
            scope: for the connections; its end ends them.
            on_newer: told the versions of nodes configuration and placement that somebody has and
                this node has not: fetch them and call `use_nodes` and `use_placement`. Told again
                and again until then.
            on_ended: this node was started again or removed, so this process must stop.
        """
        self._me = me
        self.nodes = nodes
        self.nodes_version = nodes_version
        self._transport = transport
        self._loop = loop
        self._clock = clock
        self._random = random
        self._scope = scope
        self._on_newer = on_newer
        self._on_ended = on_ended
        self._options = options or DetectorOptions()
        self._detector = FailureDetector(
            me.id, me.generation, now_ns=clock.monotonic_ns(), options=self._options
        )
        self.schema_version: Callable[[], int] = int
        self.own_latest_ns: Callable[[], int] = int
        self.latest_ns = 0
        self.own_applied: Callable[[], tuple[tuple[int, int], ...]] = tuple
        self.own_stopped: Callable[[], tuple[tuple[int, int, int], ...]] = tuple
        # By node: the generation that told it, and what it told last.
        self._stopped: dict[int, tuple[int, tuple[tuple[int, int, int], ...]]] = {}
        # By node: the generation that told it, and by partition the last applied LSN.
        self._applied: dict[int, tuple[int, dict[int, int]]] = {}
        self._clocks = ClockOffsets()
        self._links: dict[int, _Link] = {}
        self._accepted: dict[int, Connection] = {}
        self._listeners: list[Callable[[MembershipView], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._running = False
        self._ended = False

    # What others ask -----------------------------------------------------------------------------

    @property
    def view(self) -> MembershipView:
        """Who lives now."""
        return self._detector.view

    def alive(self) -> tuple[int, ...]:
        """The ids of the nodes that are not dead, this one included, sorted."""
        return self.view.alive()

    def on_change(self, listener: Callable[[MembershipView], None]) -> Callable[[], None]:
        """Have `listener` called with each new view; gives what ends that. It must not raise."""
        self._listeners.append(listener)

        def forget() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return forget

    def applied(self) -> dict[tuple[int, int], int]:
        """How far other nodes are, as they told last: by (partition, node), the last applied LSN.

        Told to admin nodes, some twice a second. What an earlier life of a node told is left out.
        """
        return {
            (partition, node.id): lsn
            for node in self.nodes.nodes
            if (told := self._applied.get(node.id)) is not None and told[0] == node.generation
            for partition, lsn in told[1].items()
        }

    def stopped(self) -> dict[tuple[int, int], tuple[int, int]]:
        """The copies that have stopped on other nodes: by (partition, node), last applied LSN and
        why.

        What an earlier life of a node told is left out.
        """
        return {
            (partition, node.id): (lsn, why)
            for node in self.nodes.nodes
            if (told := self._stopped.get(node.id)) is not None and told[0] == node.generation
            for partition, lsn, why in told[1]
        }

    def clocks_ahead_ns(self) -> dict[int, int]:
        """By how much the clocks of other nodes are ahead of this one's, of those that tell."""
        return self._clocks.ahead_ns({node.id: node.generation for node in self.nodes.nodes})

    # Life ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to dial and tell. The node's listener serves `serve` already."""
        self._running = True
        self._configure()
        self._set_timer()

    def stop(self) -> None:
        """Say and hear nothing more; connections end. Doing it twice does nothing."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        for link in self._links.values():
            if link.task is not None:
                link.task.cancel()
        self._links.clear()

    def leave(self) -> None:
        """Tell everybody that this node is about to stop; `stop` follows when that is done."""
        self._handle(Leave(self._clock.monotonic_ns()))

    def use_nodes(self, version: int, nodes: NodesConfiguration) -> None:
        """Take a nodes configuration; an older one than is known changes nothing."""
        if version > self.nodes_version:
            self.nodes_version, self.nodes = version, nodes
            if self._running:
                self._configure()

    def use_placement(self, version: int) -> None:
        """Tell others that there is a placement of this version."""
        self._handle(PlacementSeen(self._clock.monotonic_ns(), version))

    def _configure(self) -> None:
        if self.nodes.node(self._me.id) is None:
            self._end(
                NodeRemovedError(
                    "node.name", f"node {self._me.name!r} was removed from the cluster: it stops"
                )
            )
        known = tuple((node.id, node.generation) for node in self.nodes.nodes)
        ids = {node_id for node_id, _ in known}
        for told in (self._applied, self._stopped):
            for node_id in [node_id for node_id in told if node_id not in ids]:
                del told[node_id]
        for node_id in [node_id for node_id in self._links if node_id not in ids]:
            self._drop_link(node_id)
        self._handle(Configured(self._clock.monotonic_ns(), self.nodes_version, known))

    def _set_timer(self) -> None:
        self._timer = self._loop.call_later(self._options.tick_ns / 1e9, self._tick)

    def _tick(self) -> None:
        if not self._running:
            return
        self._ticks += 1
        for node_id, link in list(self._links.items()):
            if link.connection is None and self._ticks - link.dialled_at_tick > DIAL_TICKS_MAX:
                self._drop_link(node_id)
                self._handle(Unanswered(self._clock.monotonic_ns(), node_id))
        self._handle(Tick(self._clock.monotonic_ns(), self._random.bits(_DRAW_BITS)))
        self._set_timer()

    def _handle(self, event: Event) -> None:
        if self._running:
            for effect in self._detector.handle(event):
                self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(node_id, gossip):
                self._send(node_id, gossip)
            case Dial(node_id, generation):
                self._dial(node_id, generation)
            case Changed(view):
                for listener in tuple(self._listeners):
                    listener(view)
            case Newer(nodes_version, placement_version):
                self._on_newer(nodes_version, placement_version)
            case Superseded(generation):
                self._superseded(generation)
            case _:
                assert_never(effect)

    def _superseded(self, generation: int) -> None:
        self._end(
            SupersededError(
                "node.name",
                f"node {self._me.name!r} runs as generation {generation} elsewhere and this "
                f"process is its generation {self._me.generation}: it stops; if both are meant to "
                "run, give each a name of its own",
            )
        )

    def _end(self, error: PerdureError) -> None:
        if not self._ended:
            self._ended = True
            self._on_ended(error)

    # Dialling ------------------------------------------------------------------------------------

    def _send(self, node_id: int, gossip: Gossip) -> None:
        link = self._links.get(node_id)
        if link is None or link.connection is None:
            return
        if link.connection.queued_bytes > QUEUED_BYTES_MAX:
            return
        node = self.nodes.node(node_id)
        tells = node is not None and "admin" in node.roles
        gossip = msgspec.structs.replace(
            gossip,
            schema_version=self.schema_version(),
            applied=self.own_applied() if tells else (),
            # A clock that is set to before 1970 tells nothing; it could not be sent either.
            time_ns=max(0, self._clock.time_ns()),
            latest_ns=max(self.own_latest_ns(), self.latest_ns),
            stopped=self.own_stopped(),
        )
        try:
            link.connection.send(encode_message(gossip))
        except TransportError as error:
            # Its task sees the end of the connection, and tells the detector.
            _log.debug("gossip not sent", node=node_id, reason=str(error))

    def _drop_link(self, node_id: int) -> None:
        link = self._links.pop(node_id, None)
        if link is not None and link.task is not None:
            link.task.cancel()

    def _dial(self, node_id: int, generation: int) -> None:
        self._drop_link(node_id)
        node = self.nodes.node(node_id)
        address = "" if node is None else node.addresses.node
        # An address that is refused says something about the generation that it is known from.
        link = _Link(generation if node is None else node.generation, self._ticks)
        self._links[node_id] = link
        link.task = self._scope.spawn(
            self._run_link(node_id, link, address), name=f"membership to n{node_id}"
        )

    async def _run_link(self, node_id: int, link: _Link, address: str) -> None:
        connection: Connection | None = None
        try:
            connection = await self._transport.connect(address, MEMBERSHIP_SERVICE)
            hello = Hello(self.nodes.fingerprint, self._me.id, self._me.generation, node_id)
            connection.send(encode_message(hello))
            answer = await connection.receive()
            if self._links.get(node_id) is link:
                self._answered(node_id, link, connection, answer)
            if link.connection is not None:
                while await connection.receive() is not None:
                    pass  # Nothing is said here; the end is what counts.
        except NobodyListensError:
            self._end_link(node_id, link, refused=True)
        except (TransportError, MalformedMessageError) as error:
            _log.debug("node not reached", node=node_id, reason=str(error))
            self._end_link(node_id, link)
        else:
            self._end_link(node_id, link)
        finally:
            if connection is not None:
                await connection.close()

    def _answered(
        self, node_id: int, link: _Link, connection: Connection, answer: bytes | None
    ) -> None:
        """Raises MalformedMessageError."""
        if answer is None:
            return
        match decode_message(answer):
            case Welcome(there, generation) if there == node_id:
                link.connection = connection
                link.generation = generation
                now_ns = self._clock.monotonic_ns()
                self._handle(Met(now_ns, node_id, generation, connected=True))
            case Turned(code, reason):
                _log.warning("a node refuses this one", node=node_id, code=code, reason=reason)
            case _:
                # Another node has its address now, so its process is not there.
                raise NobodyListensError(f"node n{node_id} is not at {connection.peer} any more")

    def _end_link(self, node_id: int, link: _Link, *, refused: bool = False) -> None:
        if self._links.get(node_id) is not link:
            return
        del self._links[node_id]
        now_ns = self._clock.monotonic_ns()
        if refused:
            self._handle(Refused(now_ns, node_id, link.generation))
        elif link.connection is not None:
            self._handle(Lost(now_ns, node_id, link.generation))
        else:
            self._handle(Unanswered(now_ns, node_id))

    # Being dialled -------------------------------------------------------------------------------

    async def serve(self, connection: Connection) -> None:
        """Hear one other node, for as long as it is connected. The listener runs this."""
        try:
            await self._hear(connection)
        except MalformedMessageError as error:
            _log.warning("a membership message is dropped", peer=connection.peer, reason=str(error))

    async def _hear(self, connection: Connection) -> None:
        first = await connection.receive()
        if first is None or not self._running:
            return
        hello = decode_message(first)
        if not isinstance(hello, Hello):
            raise MalformedMessageError("the first message is no greeting")
        if hello.fingerprint != self.nodes.fingerprint:
            error = FingerprintError(
                "fingerprint", "this node belongs to another cluster: check the address"
            )
            connection.send(encode_message(Turned(error.code, error.message)))
            return
        connection.send(encode_message(Welcome(self._me.id, self._me.generation)))
        if hello.wanted_id != self._me.id or not hello.node_id:
            return
        self._handle(
            Met(self._clock.monotonic_ns(), hello.node_id, hello.generation, connected=False)
        )
        before = self._accepted.get(hello.node_id)
        self._accepted[hello.node_id] = connection
        if before is not None:
            await before.close()  # One at a time is enough; the newer one is the node's own choice.
        try:
            while (data := await connection.receive()) is not None and self._running:
                message = decode_message(data)
                if not isinstance(message, Gossip):
                    raise MalformedMessageError("gossip was expected")
                now_ns = self._clock.monotonic_ns()
                self._handle(Received(now_ns, hello.node_id, hello.generation, message))
                self._hear_news(hello, message)
        finally:
            if self._accepted.get(hello.node_id) is connection:
                del self._accepted[hello.node_id]
                now_ns = self._clock.monotonic_ns()
                self._handle(Unheard(now_ns, hello.node_id, hello.generation))

    def _hear_news(self, hello: Hello, gossip: Gossip) -> None:
        """What has nothing to do with who lives."""
        heard_ns = max(gossip.time_ns, gossip.latest_ns)
        if self.latest_ns < heard_ns <= self._clock.time_ns() + LATEST_AHEAD_NS_MAX:
            self.latest_ns = heard_ns
        self._clocks.heard(hello.node_id, hello.generation, gossip.time_ns, self._clock.time_ns())
        if gossip.schema_version > self.schema_version():
            self._on_newer(0, 0)
        before = self._applied.get(hello.node_id)
        if gossip.applied and (before is None or before[0] <= hello.generation):
            self._applied[hello.node_id] = hello.generation, dict(gossip.applied)
        generation, _ = self._stopped.get(hello.node_id, (0, ()))
        if generation <= hello.generation:
            self._stopped[hello.node_id] = hello.generation, gossip.stopped


async def answers_as(
    node: NodeConfiguration, *, fingerprint: str, transport: Transport, timeout_seconds: float = 2.0
) -> bool:
    """Whether this very generation of a node answers at its address. Cancelling is safe."""

    async def ask() -> Welcome | None:
        connection = await transport.connect(node.addresses.node, MEMBERSHIP_SERVICE)
        try:
            connection.send(encode_message(Hello(fingerprint, 0, 0, node.id)))
            answer = await connection.receive()
            message = None if answer is None else decode_message(answer)
            return message if isinstance(message, Welcome) else None
        finally:
            await connection.close()

    try:
        return await asyncio.wait_for(ask(), timeout_seconds) == Welcome(node.id, node.generation)
    except (TransportError, MalformedMessageError, TimeoutError):
        return False
