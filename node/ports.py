"""NodePorts: what a node's server takes of the world around it."""

from collections.abc import Callable
from dataclasses import dataclass

from ..core.net.transport import Transport
from ..core.storage.files import Files
from ..core.storage.kv import KvStore
from ..log.local.sync_runner import SyncRunner


@dataclass(frozen=True, slots=True)
class NodePorts:
    """Network, disks and doors of a node; None and True are those of a process of its own.

    Attributes:
        transport: how other nodes and workers are reached; by default as the options say.
        open_store: opens the store of a name; by default below the base directory.
        make_sync_runner: gives what syncs the store of a name; by default a thread each.
        files: where snapshots are kept; by default the system's.
        doors: whether clients and operators are let in over sockets.
    """

    transport: Transport | None = None
    open_store: Callable[[str], KvStore] | None = None
    make_sync_runner: Callable[[str], SyncRunner] | None = None
    files: Files | None = None
    doors: bool = True
