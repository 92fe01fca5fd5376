"""A leader whose log was its process's alone notices when another one seals its next segment."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from perdure.core.clock import SystemClock
from perdure.core.random import SeededRandom
from perdure.core.tasks import TaskScope
from perdure.log.logs import Logs
from perdure.log.virtual_log import VirtualLog
from perdure.metadata.memory import MemoryMetadataStore
from perdure.partition_processor.processor import PartitionProcessor
from perdure.partition_processor.role_changes import LEAD_CHECK_SECONDS, Host, RoleChanges
from perdure.testing.simulation.loop import SimulationLoop, run_simulated


class LedLog:
    """A log that this process orders, in segment 1, until `shared` and `sealed` say otherwise."""

    def __init__(self) -> None:
        self.shared = self.sealed_by_others = self.sealed = False
        self.open_segment = 1
        self.chain = SimpleNamespace(tail=SimpleNamespace(index=1))
        self.looks = self.recoveries = 0

    async def lead(self, epoch: int) -> int:
        return epoch

    async def is_sealed(self, _segment: object) -> bool:
        self.looks += 1
        return self.sealed_by_others

    async def recover(self) -> None:
        self.recoveries += 1
        self.sealed_by_others = False


class Processor:
    """A partition that leads as soon as it has announced that."""

    partition, epoch, written_lsn = 0, 1, 0
    role = "follower"

    def __init__(self, log: LedLog) -> None:
        self.log = log

    async def open(self, _log: object, _epoch: int) -> None:
        self.role = "replaying"

    async def replay_some(self) -> bool:
        return True

    def announce(self) -> None:
        self.role = "leader"


class OneHost:
    """What the change of roles needs of a manager."""

    def __init__(self, processor: Processor) -> None:
        self.processors = [processor]

    def finish_turn(self) -> None:
        pass

    async def shorten(self, _log: object, _applied_lsn: int) -> None:
        pass


def test_a_log_that_comes_to_be_shared_is_looked_at() -> None:
    loop = SimulationLoop()

    async def story() -> None:
        log = LedLog()
        processor = Processor(log)
        scope = TaskScope("roles")
        roles = RoleChanges(
            cast("Host", OneHost(processor)),
            partition_count=1,
            node="n1",
            metadata=MemoryMetadataStore(),
            loop=loop,
            clock=SystemClock(),
            random=SeededRandom(1),
            scope=scope,
        )
        kinds: Any = SimpleNamespace(shared=True)
        roles.logs = cast("Logs", kinds)
        await roles.take_lead(cast("PartitionProcessor", processor), cast("VirtualLog", log), 1)
        await asyncio.sleep(3 * LEAD_CHECK_SECONDS)
        assert log.looks == 0

        log.shared = log.sealed_by_others = True
        await asyncio.sleep(1.5 * LEAD_CHECK_SECONDS)
        assert log.recoveries == 1

        processor.role = "follower"
        await asyncio.sleep(1.5 * LEAD_CHECK_SECONDS)
        looks = log.looks
        await asyncio.sleep(3 * LEAD_CHECK_SECONDS)
        assert log.looks == looks
        await scope.close()

    run_simulated(story(), loop)
