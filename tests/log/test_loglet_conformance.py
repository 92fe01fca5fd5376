"""Every provider of loglets keeps the contract."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.core.storage.kv import KvStore
from perdure.core.storage.memory import MemoryStore
from perdure.core.storage.rocks import RocksStore
from perdure.log.chain import Segment
from perdure.log.errors import LogletLostError
from perdure.log.local.writer import SyncMode
from perdure.log.loglet import LogletProvider
from perdure.log.memory.provider import MemoryProvider
from perdure.log.placement import Replica

from ..conformance.loglet import DurableLogletSuite, LogletSuite
from ..conformance.loglet_harness import LogletHarness, live
from .support import LogOnStore, SetClock, segment_of


class LocalHarness:
    """Local loglets; a restart of the process keeps what the store keeps."""

    appends_after_restart = True

    def __init__(
        self, open_store: Callable[[], KvStore], mode: SyncMode, disk: Replica | None = None
    ) -> None:
        self.clock = SetClock()
        self._disk = disk
        self._open_store = open_store
        self._mode = mode

    def start(self) -> LogletProvider:
        self._store = self._open_store()
        self._log = LogOnStore(self._store, mode=self._mode, clock=self.clock, disk=self._disk)
        return self._log.provider

    async def ready(self) -> None:
        pass

    async def stop(self) -> None:
        self._log.writer.close()
        self._store.close()


class _MemoryStores:
    """Hands the content from one store to the next."""

    def __init__(self) -> None:
        self._last = MemoryStore()

    def __call__(self) -> MemoryStore:
        self._last = self._last.reopen()
        return self._last


class MemoryHarness:
    """Memory loglets, which end with the process."""

    appends_after_restart = False

    def __init__(self) -> None:
        self.clock = SetClock()

    def start(self) -> LogletProvider:
        return MemoryProvider(loop=asyncio.get_running_loop(), clock=self.clock, node="n1")

    async def ready(self) -> None:
        pass

    async def stop(self) -> None:
        pass


class TestLocalOverMemoryStore(DurableLogletSuite):
    """Syncing inline and behind, in a thread."""

    @pytest.fixture(params=["always", "never"])
    def harness(self, request: pytest.FixtureRequest) -> LogletHarness:
        mode: SyncMode = request.param
        return LocalHarness(_MemoryStores(), mode)


class TestLocalInACluster(DurableLogletSuite):
    """Where segments name their disk."""

    @pytest.fixture
    def harness(self) -> LogletHarness:
        return LocalHarness(_MemoryStores(), "always", Replica("n1", "disk-1"))


class TestLocalOverRocksStore(DurableLogletSuite):
    """On a real disk."""

    @pytest.fixture(params=["always", "never"])
    def harness(self, request: pytest.FixtureRequest, tmp_path: Path) -> LogletHarness:
        mode: SyncMode = request.param
        return LocalHarness(lambda: RocksStore.open(tmp_path / "log"), mode)


class TestMemory(LogletSuite):
    """Without a disk."""

    @pytest.fixture
    def harness(self) -> LogletHarness:
        return MemoryHarness()

    def test_segment_of_a_process_that_ended_is_lost(self, harness: LogletHarness) -> None:
        segments: list[Segment] = []

        async def first(provider: LogletProvider) -> None:
            segments.append(segment_of(provider))
            provider.open(segments[0])

        async def second(provider: LogletProvider) -> None:
            with pytest.raises(LogletLostError, match="segment 1"):
                provider.open(segments[0])

        live(harness, first)
        live(harness, second)

    def test_segment_that_another_process_was_first_to_make_is_not_ours(
        self, harness: LogletHarness
    ) -> None:
        async def scenario(provider: LogletProvider) -> None:
            ours = segment_of(provider, 2, epoch=4)
            loop = asyncio.get_running_loop()
            other = MemoryProvider(loop=loop, clock=harness.clock, node="n2")
            theirs = segment_of(other, 2, epoch=4)
            assert theirs.params.loglet == ours.params.loglet
            with pytest.raises(LogletLostError):
                provider.open(theirs)

            provider.open(ours)

        live(harness, scenario)
