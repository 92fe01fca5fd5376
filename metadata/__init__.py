"""The small linearizable store of versioned values: configuration of nodes, logs and partitions.

Imports ``proto`` and ``core``. Implementations are imported by name: ``memory``, ``local``,
``quorum``.
"""

from .api import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    DoesNotExist,
    MatchesVersion,
    MetadataStore,
    Precondition,
    PreconditionFailedError,
    Version,
    VersionedValue,
)
from .values import CONFLICTS_MAX, read_modify_write

__all__ = [
    "CONFLICTS_MAX",
    "KEY_BYTES_MAX",
    "VALUE_BYTES_MAX",
    "DoesNotExist",
    "MatchesVersion",
    "MetadataStore",
    "Precondition",
    "PreconditionFailedError",
    "Version",
    "VersionedValue",
    "read_modify_write",
]
