"""Leader epochs: taken by compare-and-set, so that no two leaders ever have the same."""

from typing import Final

import msgspec

from ..core.ids import PartitionId
from ..metadata.api import MetadataStore, VersionedValue
from ..metadata.values import read_modify_write
from .tables.skipped import Skip


class LeaderClaim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who took which epoch of a partition last, and what the partition goes on without.

    Attributes:
        skips: decided so far, in the order of their LSNs.
    """

    epoch: int
    node: str
    skips: tuple[Skip, ...] = ()


_decode: Final = msgspec.json.Decoder(LeaderClaim).decode


def claim_key(partition: PartitionId) -> str:
    """The metadata key of a partition's claim."""
    return f"partition/{partition}/leader"


async def read_claim(store: MetadataStore, partition: PartitionId) -> LeaderClaim | None:
    """Who took which epoch of a partition last; None when nobody ever has. Linearizable."""
    value = await store.get(claim_key(partition))
    return None if value is None else _decode(value.value)


async def claim_leadership(store: MetadataStore, partition: PartitionId, node: str) -> LeaderClaim:
    """Take the next epoch of a partition for `node` and give the claim.

    The node leads once it reads its own announcement of that epoch from the log. Cancelling may
    leave an epoch taken that nobody announces, which is harmless.
    """
    claimed = LeaderClaim(0, node)

    def change(current: VersionedValue | None) -> bytes:
        nonlocal claimed
        last = LeaderClaim(0, "") if current is None else _decode(current.value)
        claimed = LeaderClaim(last.epoch + 1, node, last.skips)
        return msgspec.json.encode(claimed)

    await read_modify_write(store, claim_key(partition), change)
    return claimed


async def add_skip(
    store: MetadataStore, partition: PartitionId, skip: Skip, seen: LeaderClaim
) -> LeaderClaim | None:
    """Have a partition go on without a record, if its claim is still the one that was `seen`.

    Gives the claim as it is stored then, and None when another one is there, so that who is to lead
    may have gone on already. Doing it again is harmless: the first decision stays. Cancelling
    leaves open whether it was made.
    """
    made: LeaderClaim | None = None

    def change(current: VersionedValue | None) -> bytes | None:
        nonlocal made
        now = None if current is None else _decode(current.value)
        if now is not None and any(known.lsn == skip.lsn for known in now.skips):
            made = now
            return None
        if now != seen:
            made = None
            return None
        skips = sorted((*seen.skips, skip), key=lambda item: item.lsn)
        made = LeaderClaim(seen.epoch, seen.node, tuple(skips))
        return msgspec.json.encode(made)

    await read_modify_write(store, claim_key(partition), change)
    return made
