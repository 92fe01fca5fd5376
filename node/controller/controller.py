"""Controller: plans where partitions are and stores it by compare-and-set.

Every admin node runs one; the first alive one by id decides. Nobody elects it: views may differ for
a while, and then two decide. That is harmless, as each stores only what it has planned from the
placement that is there; the later one finds its placement changed and plans again.
"""

import asyncio
from collections.abc import Callable

import structlog

from ...core.clock import Clock
from ...core.errors import StorageError, TransportError
from ...core.tasks import TaskScope
from ...core.waiters import Waiters
from ...metadata.api import (
    DoesNotExist,
    MatchesVersion,
    MetadataStore,
    PreconditionFailedError,
    VersionedValue,
)
from ...metadata.nodes import NODES_KEY, decode_nodes
from ...metadata.placement import (
    PLACEMENT_KEY,
    Placement,
    decode_placement,
    encode_placement,
)
from ...metadata.values import read_modify_write
from ..cluster.errors import NotProvisionedError
from ..membership.membership import Membership
from ..membership.view import MembershipView
from .moves import move_lead
from .nearness import Nearness
from .planner import Plan, plan
from .sketch import Facts
from .steadiness import Steadiness, SteadinessOptions

HEARTBEAT_NS = 1_000_000_000
"""How often the placement is looked at when nothing changes."""

_log = structlog.get_logger("controller")


class Controller:
    """The controller of one admin node.

    Attributes:
        warnings: what an operator should know, from the last plan that was made here.
        writes: how often it has changed the placement.
    """

    def __init__(
        self,
        *,
        metadata: MetadataStore,
        membership: Membership,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        scope: TaskScope,
        on_placement: Callable[[int, Placement], None],
        applied: Callable[[], dict[tuple[int, int], int]] | None = None,
        unfit: Callable[[], frozenset[tuple[int, int]]] = frozenset,
        options: SteadinessOptions | None = None,
    ) -> None:
        """Prepare; `start` follows.

        Args:
            on_placement: told each placement that it has stored, with its version.
            applied: how far nodes are with partitions, see `Facts.applied`; None where nobody
                tells, and a lead may go to any replica then.
            unfit: see `Facts.unfit`.
        """
        self._metadata = metadata
        self._membership = membership
        self._loop = loop
        self._clock = clock
        self._scope = scope
        self._on_placement = on_placement
        self._applied, self._unfit = applied, unfit
        self._steadiness = Steadiness(options)
        self._nearness = Nearness()
        self._wake = Waiters()
        self._dirty = True
        self._timer: asyncio.TimerHandle | None = None
        self._forget: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.warnings: tuple[str, ...] = ()
        self.writes = 0

    def start(self) -> None:
        """Begin to watch and, while this node is the one, to decide."""
        self._observe(self._membership.view)
        self._forget = self._membership.on_change(self._observe)
        self._task = self._scope.spawn(self._run(), name="controller")
        self._beat()

    def stop(self) -> None:
        """Decide nothing more. A change under way may still be made."""
        if self._forget is not None:
            self._forget()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def decides(self) -> bool:
        """Whether this node is the one to decide, as it sees things."""
        view = self._membership.view
        if not view.settled or view.isolated or view.doubted:
            return False
        alive = set(view.alive())
        admins = [node.id for node in self._membership.nodes.having("admin") if node.id in alive]
        return bool(admins) and min(admins) == view.me

    async def move(self, partition: int, node_id: int, *, only_keepers: bool = False) -> Placement:
        """Have a node lead a partition; works on any node. Raises MoveRefusedError.

        With `only_keepers` a node that does not keep the partition is refused.

        Also raises what the store raises; after those, and when cancelled, it may have been done.
        """
        moved: Placement | None = None

        def change(current: VersionedValue | None) -> bytes | None:
            nonlocal moved
            if current is None:
                raise _not_placed()
            before = decode_placement(current.value)
            view, nodes = self._membership.view, self._membership.nodes
            moved = move_lead(
                nodes,
                view,
                before,
                partition,
                node_id,
                only_keepers=only_keepers,
                unfit=self._unfit(),
            )
            return None if moved == before else encode_placement(moved)

        stored = await read_modify_write(self._metadata, PLACEMENT_KEY, change)
        assert moved is not None
        assert stored is not None
        self._on_placement(stored.version, moved)
        return moved

    # Rounds --------------------------------------------------------------------------------------

    def _observe(self, view: MembershipView) -> None:
        self._steadiness.observe(self._clock.monotonic_ns(), view)
        self._dirty = True
        self._wake.wake()

    def _beat(self) -> None:
        self._observe(self._membership.view)
        self._timer = self._loop.call_later(HEARTBEAT_NS / 1e9, self._beat)

    async def _run(self) -> None:
        while True:
            while not self._dirty:
                await self._wake.wait()
            self._dirty = False
            if not self.decides():
                continue
            try:
                await self.decide()
            except PreconditionFailedError:
                # Somebody else came first: look again at once.
                self._dirty = True
            except (TransportError, StorageError, NotProvisionedError) as error:
                # The next heartbeat tries again.
                _log.warning("placement not looked at", code=error.code, reason=str(error))

    async def decide(self) -> Plan:
        """One round: read, plan, store. Raises what the store raises. Cancelling may have stored.

        The placement is read first, so that the nodes are never older than it.
        """
        stored = await self._metadata.get(PLACEMENT_KEY)
        value = await self._metadata.get(NODES_KEY)
        if value is None:
            raise NotProvisionedError("node.cluster", "there is no cluster yet: provision it once")
        nodes = decode_nodes(value.value)
        self._membership.use_nodes(value.version, nodes)
        current = None if stored is None else decode_placement(stored.value)
        now_ns = self._clock.monotonic_ns()
        applied = {} if self._applied is None else self._applied()
        near = None
        if self._applied is not None and current is not None:
            near = self._nearness.observe(current, applied)
        facts = Facts(
            nodes=nodes,
            view=self._membership.view,
            settled=self._steadiness.settled(now_ns),
            lost=self._steadiness.lost(now_ns),
            applied=applied,
            near=near,
            unfit=self._unfit(),
        )
        planned = plan(facts, current)
        if planned.warnings != self.warnings:
            self.warnings = planned.warnings
            for warning in planned.warnings:
                _log.warning(warning)
        if planned.placement != current:
            precondition = DoesNotExist() if stored is None else MatchesVersion(stored.version)
            version = await self._metadata.put(
                PLACEMENT_KEY, encode_placement(planned.placement), precondition
            )
            self.writes += 1
            self._on_placement(version, planned.placement)
        return planned


def _not_placed() -> NotProvisionedError:
    return NotProvisionedError(
        "partition", "partitions have no place yet: try again once the controller has looked"
    )
