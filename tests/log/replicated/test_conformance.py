"""Replicated loglets keep the contract of loglets, in process and over TCP."""

from collections.abc import Callable

import pytest

from perdure.core.ids import LogId
from perdure.core.net.tcp import TcpTransport
from perdure.core.net.transport import Transport
from perdure.core.storage.kv import KvStore
from perdure.core.storage.memory import MemoryStore
from perdure.log.chain import SegmentParams
from perdure.log.local.writer import SyncMode
from perdure.log.loglet import LogletProvider, SequencerNode
from perdure.log.replicated.provider import ReplicatedProvider

from ...conformance.loglet import DurableLogletSuite
from ...conformance.loglet_appends import ListenerTests
from ...conformance.loglet_ends import TrimTests
from ...conformance.loglet_harness import LogletHarness
from ..support import SetClock
from .support import Cluster

SERVERS = ["s1", "s2", "s3"]


class ReplicatedHarness:
    """Three log-servers and a node; each life of the process is one of all of them."""

    appends_after_restart = False

    def __init__(self, mode: SyncMode, transport: Callable[[], Transport] | None = None) -> None:
        self.clock = SetClock()
        self._mode = mode
        self._transport = transport
        self._stores: dict[str, KvStore] = {name: MemoryStore() for name in SERVERS}
        self._lives = 0

    def start(self) -> LogletProvider:
        self._lives += 1
        self._cluster = Cluster(
            SERVERS,
            stores=self._stores,
            mode=self._mode,
            clock=self.clock,
            transport=self._transport,
        )
        return self._cluster.provider("n1", self._lives)

    async def ready(self) -> None:
        pass

    async def stop(self) -> None:
        await self._cluster.close()
        for name, store in self._stores.items():
            assert isinstance(store, MemoryStore)
            self._stores[name] = store.reopen()


class TestReplicated(DurableLogletSuite):
    """With servers that sync inline, and behind."""

    @pytest.fixture(params=["always", "never"])
    def harness(self, request: pytest.FixtureRequest) -> LogletHarness:
        mode: SyncMode = request.param
        return ReplicatedHarness(mode)


class _OrderedElsewhere:
    """A provider whose new segments another node orders."""

    def __init__(self, provider: ReplicatedProvider) -> None:
        self._provider = provider
        self.sequencer: SequencerNode | None = None
        self.open = provider.open
        self.delete = provider.delete
        self.meet = provider.meet
        self.kind = provider.kind

    def params(
        self,
        log: LogId,
        index: int,
        epoch: int,
        record_time_ns: int,
        sequencer: SequencerNode | None = None,
    ) -> SegmentParams:
        assert self.sequencer is not None, "not ready yet"
        return self._provider.params(log, index, epoch, record_time_ns, self.sequencer)


class RemoteHarness(ReplicatedHarness):
    """The same, with another node that gives out the offsets."""

    def start(self) -> LogletProvider:
        provider = super().start()
        assert isinstance(provider, ReplicatedProvider)
        self._elsewhere = _OrderedElsewhere(provider)
        return self._elsewhere

    async def ready(self) -> None:
        await self._cluster.order_at("n2")
        self._elsewhere.sequencer = await self._elsewhere.meet("n2")


class TestOrderedElsewhere(DurableLogletSuite):
    """The offsets are given out at another node than the one that appends."""

    @pytest.fixture(params=["always", "never"])
    def harness(self, request: pytest.FixtureRequest) -> LogletHarness:
        mode: SyncMode = request.param
        return RemoteHarness(mode)


class TestReplicatedOverTcp(ListenerTests, TrimTests):
    """Over framed TCP on the loopback: a part of the suite, for the connections' sake."""

    @pytest.fixture
    def harness(self) -> LogletHarness:
        return ReplicatedHarness("always", TcpTransport)
