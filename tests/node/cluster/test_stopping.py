"""How long a node that is told to stop takes: as long as there is something to wait for."""

import asyncio

from structlog.testing import capture_logs

from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.loop import SimulationLoop, run_simulated

from .three_nodes import Cluster

CLOSED_WITHIN_SECONDS = 0.25


def test_a_node_without_anything_to_do_does_not_wait_for_connections_to_end() -> None:
    loop = SimulationLoop(jitter=Chance(1, "timers"), jitter_ns_max=50_000)

    async def scenario() -> None:
        cluster = Cluster(loop)
        await cluster.start()
        # Long enough for heartbeats, logs and forwarding to be connected from everywhere.
        await asyncio.sleep(5)
        leader = await cluster.leader()
        with capture_logs() as logs:
            began = loop.time()
            await cluster.stop_one(leader)
            took = loop.time() - began
        events = [entry["event"] for entry in logs]
        assert "waiting for other nodes to lead" in events
        (stopped,) = [entry for entry in logs if entry["event"] == "node stopped"]
        assert stopped["closed_in_seconds"] <= CLOSED_WITHIN_SECONDS
        assert took < 1.0
        await cluster.stop()

    run_simulated(scenario(), loop, until_ns=120_000_000_000)
