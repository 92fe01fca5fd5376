"""Fixing invocation ids: derived where the request says which invocation it is, drawn otherwise."""

from typing import Final

from ..core.clock import Clock
from ..core.hashing import (
    UNKEYED_BUCKETS,
    idempotent_invocation_id,
    keyed_partition_key,
    unkeyed_partition_key,
    workflow_invocation_id,
)
from ..core.ids import InvocationId, unique_part
from ..core.random import Random
from .records import KIND_WORKFLOW_RUN

UNKEYED_RUN: Final = 32
"""How many unkeyed invocations in a row share a bucket."""


class Minter:
    """Gives ids to invocations that come without one."""

    def __init__(self, clock: Clock, random: Random) -> None:
        """Draw from these."""
        self._clock = clock
        self._random = random
        self._unkeyed: dict[str, list[bytes]] = {}
        self._unkeyed_bucket = 0
        self._unkeyed_left = 0

    def mint(
        self,
        target_kind: int,
        service: str,
        key: str | None,
        handler: str,
        idempotency_key: str | None,
        *,
        beside: InvocationId | None = None,
    ) -> InvocationId:
        """The id of an invocation of this target.

        Args:
            beside: an invocation whose partition is the best place for one that could be anywhere.
        """
        if target_kind == KIND_WORKFLOW_RUN:
            assert key is not None
            return workflow_invocation_id(service, key)
        if idempotency_key is not None:
            return idempotent_invocation_id(service, key, handler, idempotency_key)
        if key is not None:
            routing = keyed_partition_key(key).to_bytes(8, "big")
        elif beside is not None:
            routing = beside[:8]
        else:
            routing = self._unkeyed_routing(service)
        return self.unique(routing)

    def unique(self, partition_key: bytes) -> InvocationId:
        """An id that nobody else draws, with this partition key."""
        return InvocationId(partition_key + unique_part(self._clock.time_ns(), self._random))

    def _unkeyed_routing(self, service: str) -> bytes:
        """A random bucket's partition key; the few there are are computed once per service.

        Neighbours share a bucket, so that what arrives together goes into one partition's batch.
        """
        buckets = self._unkeyed.get(service)
        if buckets is None:
            buckets = [
                unkeyed_partition_key(service, bucket).to_bytes(8, "big")
                for bucket in range(UNKEYED_BUCKETS)
            ]
            self._unkeyed[service] = buckets
        if not self._unkeyed_left:
            self._unkeyed_left = UNKEYED_RUN
            self._unkeyed_bucket = self._random.bits(9)
        self._unkeyed_left -= 1
        return buckets[self._unkeyed_bucket]
