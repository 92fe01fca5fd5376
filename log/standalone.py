"""Logs in a directory, without a node around them: for programs that want just the log.

The layout is that of a node's base directory, so the logs of a node that is not running can be
looked into as well.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ..core.clock import Clock, SystemClock
from ..core.errors import StorageError
from ..core.storage.rocks import RocksStore
from ..metadata.local import LocalMetadataStore
from .local.provider import KIND as LOCAL
from .local.provider import LocalProvider
from .local.writer import LogWriter, SyncMode, SyncPolicy
from .log_store import KvLogStore
from .logs import Logs
from .memory.provider import MemoryProvider
from .sequencer import SequencerLimits


class NoMetrics:
    """Takes what the log's writer reports and keeps nothing of it."""

    def log_appended(self, records: int, duration_seconds: float) -> None:
        """One turn's records became durable so long after they were taken up."""

    def log_synced(self, duration_seconds: float) -> None:
        """One sync took so long."""


@asynccontextmanager
async def open_logs(
    directory: str | Path,
    *,
    name: str = "",
    clock: Clock | None = None,
    sync_inline: SyncMode = "auto",
    limits: SequencerLimits | None = None,
) -> AsyncIterator[Logs]:
    """The logs kept in `directory`, made when it is missing; closed when the block is left.

    What is appended and not answered then may be there or not. Only one process can have a
    directory open.

    Args:
        name: of this process, kept in the segments that it adds.
        sync_inline: whether the event loop itself waits for the disk: when it is quick, always or
            never.
        limits: of what each sequencer remembers and lets in.

    Raises StorageLockedError, StorageCorruptError or StorageError.
    """
    base = Path(directory)
    clock = clock or SystemClock()
    loop = asyncio.get_running_loop()
    metadata = RocksStore.open(base / "metadata")
    try:
        store = RocksStore.open(base / "log", profile="log")
        try:
            opened: list[Logs] = []

            def failed(error: StorageError) -> None:
                for logs in opened:
                    logs.fail(error)

            writer = LogWriter(
                kv_store=store,
                loop=loop,
                clock=clock,
                policy=SyncPolicy(sync_inline),
                metrics=NoMetrics(),
                on_turn=_nothing,
                on_failure=failed,
            )
            local = LocalProvider(store=KvLogStore(store), writer=writer, clock=clock, node=name)
            logs = Logs(
                metadata=LocalMetadataStore(metadata),
                providers=[local, MemoryProvider(loop=loop, clock=clock, node=name)],
                loop=loop,
                default_kind=LOCAL,
                limits=limits,
            )
            opened.append(logs)
            try:
                yield logs
            finally:
                logs.fail(StorageError("it was closed"))
                writer.close()
        finally:
            store.close()
    finally:
        metadata.close()


def _nothing() -> None:
    return None
