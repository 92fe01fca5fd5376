"""Working with metadata values: reading, changing and writing back as one step."""

from collections.abc import Callable
from typing import Final

from .api import (
    DoesNotExist,
    MatchesVersion,
    MetadataStore,
    PreconditionFailedError,
    VersionedValue,
)

CONFLICTS_MAX: Final = 32
"""How often somebody else may come first before `read_modify_write` gives up."""


async def read_modify_write(
    store: MetadataStore,
    key: str,
    change: Callable[[VersionedValue | None], bytes | None],
    *,
    conflicts_max: int = CONFLICTS_MAX,
) -> VersionedValue | None:
    """Store what `change` makes of the current value, even when others change it meanwhile.

    `change` gets the current value, or None when there is none, and gives the new one; it runs
    again after each conflict, so it must depend on its argument alone. When it gives None, nothing
    is stored. Each conflict means that somebody else got on, so no waiting is needed in between.

    Returns the value as it is stored afterwards: the new one, or the current one when `change`
    gave None. Raises the last PreconditionFailedError after `conflicts_max` conflicts, and whatever
    the store or `change` raise. Cancelling leaves open whether the value was stored.
    """
    conflicts = 0
    while True:
        current = await store.get(key)
        changed = change(current)
        if changed is None:
            return current
        precondition = DoesNotExist() if current is None else MatchesVersion(current.version)
        try:
            version = await store.put(key, changed, precondition)
        except PreconditionFailedError:
            conflicts += 1
            if conflicts > conflicts_max:
                raise
        else:
            return VersionedValue(version, changed)
