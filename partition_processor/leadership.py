"""Leader epochs: taken by compare-and-set, so that no two leaders ever have the same."""

from typing import Final

import msgspec

from ..core.ids import PartitionId
from ..metadata.api import MetadataStore, VersionedValue
from ..metadata.values import read_modify_write


class LeaderClaim(msgspec.Struct, frozen=True):
    """Who took which epoch of a partition last."""

    epoch: int
    node: str


_decode: Final = msgspec.json.Decoder(LeaderClaim).decode


def claim_key(partition: PartitionId) -> str:
    """The metadata key of a partition's claim."""
    return f"partition/{partition}/leader"


async def read_claim(store: MetadataStore, partition: PartitionId) -> LeaderClaim | None:
    """Who took which epoch of a partition last; None when nobody ever has. Linearizable."""
    value = await store.get(claim_key(partition))
    return None if value is None else _decode(value.value)


async def claim_leadership(store: MetadataStore, partition: PartitionId, node: str) -> int:
    """Take the next epoch of a partition for `node` and give it.

    The node leads once it reads its own announcement of that epoch from the log. Cancelling may
    leave an epoch taken that nobody announces, which is harmless.
    """
    claimed = LeaderClaim(0, node)

    def change(current: VersionedValue | None) -> bytes:
        nonlocal claimed
        epoch = 1 if current is None else _decode(current.value).epoch + 1
        claimed = LeaderClaim(epoch, node)
        return msgspec.json.encode(claimed)

    await read_modify_write(store, claim_key(partition), change)
    return claimed.epoch
