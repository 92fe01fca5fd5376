"""ClusterWatch: keeps a node's copies of nodes, placement and known deployments fresh."""

import asyncio
from collections.abc import Callable

import structlog

from ...core.errors import StorageError, TransportError
from ...core.tasks import TaskScope
from ...metadata.api import MetadataStore, VersionedValue
from ...metadata.nodes import NODES_KEY, decode_nodes
from ...metadata.placement import PLACEMENT_KEY, Placement, decode_placement
from ...partition_processor.deployments import SCHEMA_KEY
from ..membership.membership import Membership

POLL_NS = 5_000_000_000
"""How often the store is asked when nobody tells of anything newer."""

RETRY_NS = 1_000_000_000
"""How long a store that could not be reached is left alone."""

_log = structlog.get_logger("membership")


class ClusterWatch:
    """Fetches what others tell of, and looks by itself now and then.

    Attributes:
        placement: the newest that this node has, None before the first.
        placement_version: its version, 0 before the first.
        trouble: why the metadata could not be read at the last look, empty when it could.
    """

    def __init__(
        self,
        *,
        metadata: MetadataStore,
        membership: Callable[[], Membership],
        loop: asyncio.AbstractEventLoop,
        scope: TaskScope,
        on_placement: Callable[[Placement], None],
        on_schema: Callable[[VersionedValue], None] | None = None,
    ) -> None:
        """Prepare; `start` follows.

        Args:
            on_placement: told each newer placement.
            on_schema: told the known deployments as they are stored, newer or not; may raise
                StorageError when they cannot be read.
        """
        self._metadata = metadata
        self._membership = membership
        self._loop = loop
        self._scope = scope
        self._on_placement = on_placement
        self._on_schema = on_schema
        self._fetching = False
        self._timer: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._running = False
        self.placement: Placement | None = None
        self.placement_version = 0
        self.trouble = ""

    def start(self) -> None:
        """Begin to look."""
        self._running = True
        self._poll()

    def stop(self) -> None:
        """Look no more."""
        self._running = False
        for timer in (self._timer, self._retry):
            if timer is not None:
                timer.cancel()

    def newer(self, _nodes_version: int, _placement_version: int) -> None:
        """Somebody has something newer: fetch it, once at a time."""
        if not self._fetching and self._running:
            self._fetching = True
            self._scope.spawn(self._fetch(), name="fetch-configuration")

    def use(self, version: int, placement: Placement) -> None:
        """Take a placement; an older one than is known changes nothing."""
        if version > self.placement_version:
            self.placement_version, self.placement = version, placement
            self._membership().use_placement(version)
            self._on_placement(placement)

    def _poll(self) -> None:
        self.newer(0, 0)
        self._timer = self._loop.call_later(POLL_NS / 1e9, self._poll)

    async def _fetch(self) -> None:
        try:
            nodes = await self._metadata.get(NODES_KEY)
            if nodes is not None:
                self._membership().use_nodes(nodes.version, decode_nodes(nodes.value))
            placement = await self._metadata.get(PLACEMENT_KEY)
            if placement is not None and placement.version > self.placement_version:
                self.use(placement.version, decode_placement(placement.value))
            if self._on_schema is not None:
                schema = await self._metadata.get(SCHEMA_KEY)
                if schema is not None:
                    self._on_schema(schema)
        except (TransportError, StorageError) as error:
            self.trouble = f"{error.code}: {error}"
            _log.warning("configuration not fetched", code=error.code, reason=str(error))
            # Others tell of it in every period; asking that often would help nobody.
            self._retry = self._loop.call_later(RETRY_NS / 1e9, self._fetched)
        else:
            self.trouble = ""
            self._fetched()

    def _fetched(self) -> None:
        self._fetching = False
