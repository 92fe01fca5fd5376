"""A new leader knows the snapshots that its predecessor took, and trims by them."""

import asyncio

from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.loop import SimulationLoop, run_simulated

from .three_nodes import NAMES, Cluster


def test_a_new_leader_trims_up_to_its_predecessors_snapshot() -> None:
    loop = SimulationLoop(jitter=Chance(1, "timers"), jitter_ns_max=50_000)

    async def scenario() -> None:
        settings = {
            "snapshots.directory": "/snapshots",
            "snapshots.interval": "0s",
            "log.keep_records": "0",
            "log.trim_interval": "100ms",
            "cluster.replicas": "3",
        }
        cluster = Cluster(loop, settings)
        await cluster.start()
        for name in NAMES:
            cluster.engine(name)._trimmer.RECORDS_MIN = 1  # type: ignore[misc]
        first = await cluster.leader()
        engine = cluster.engine(first)
        engine._trimmer.stop()
        manifest, created = await engine.snapshots.create(engine.manager.processors[0])
        assert created
        await cluster.stop_one(first)
        second = await cluster.leader()
        engine = cluster.engine(second)
        log = engine.manager.processors[0].log
        assert log is not None
        while log.trim_point_lsn < manifest.lsn:
            await asyncio.sleep(0.1)
        assert log.trim_point_lsn == manifest.lsn
        assert engine.archived_lsn(0) == manifest.lsn
        assert [item.lsn for item in engine.snapshots.figures()] == [manifest.lsn]
        (other,) = set(NAMES) - {first, second}
        assert cluster.engine(other).snapshots.figures() == []
        await cluster.stop()

    run_simulated(scenario(), loop, until_ns=60_000_000_000)
