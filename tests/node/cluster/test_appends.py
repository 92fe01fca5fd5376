"""Appending to a log of a real cluster on a node that does not order it."""

from perdure.log import Appender, Committed, Conflict, NotChangedSince, Record
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.loop import SimulationLoop, run_simulated

from .three_nodes import NAMES, Cluster

KEY = b"k" * 16


def test_every_node_appends_to_every_log_and_follows_its_leader() -> None:
    loop = SimulationLoop(jitter=Chance(1, "timers"), jitter_ns_max=50_000)

    async def scenario() -> None:
        cluster = Cluster(loop)
        await cluster.start()
        first, second, third = [await cluster.log(name) for name in NAMES]
        await first.lead()
        assert await second.append([Record(1, b"a", (KEY,))]) == Committed(1, 1)
        on_condition = [NotChangedSince(KEY, 0)]
        refused = await third.append([Record(1, b"b", (KEY,))], conditions=on_condition)
        assert refused == Conflict(KEY, 1)
        async with Appender(third, b"p" * 16, loop=loop) as appender:
            answers = [await appender.submit([Record(1, b"%d" % n)]) for n in range(20)]
            await second.lead()
            answers += [await appender.submit([Record(1, b"%d" % n)]) for n in range(20, 40)]
            cluster.network.cut("n2")
            answers += [await appender.submit([Record(1, b"%d" % n)]) for n in range(40, 60)]
        assert {type(answer.result()) for answer in answers} == {Committed}
        tail = (await first.find_tail()).lsn
        records: list[Record] = []
        while len(records) < tail - 1:
            for item in await first.read(len(records) + 1):
                records += item.batch.records
        assert [record.body for record in records] == [b"a", *[b"%d" % n for n in range(60)]]
        await cluster.stop()

    run_simulated(scenario(), loop, until_ns=120_000_000_000)
    assert loop.now_ns > 0
