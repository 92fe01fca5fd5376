"""What was sent again has its own answer: one to what was sent before comes too late."""

import asyncio

import pytest

from perdure.log import Appender, Committed, Sealed, VirtualLog
from perdure.log import appender as appender_module
from perdure.log.elsewhere import Told
from perdure.log.sequencer import Append

from ..mesh import Mesh, run_mesh
from ..virtual import rec

P = b"p" * 16


class HeldLane:
    """A way to another node from where nothing comes back by itself."""

    is_away = ready = True

    def __init__(self, log: VirtualLog) -> None:
        self._log = log
        self.offers: list[tuple[Append, Told]] = []

    @property
    def segment(self) -> int:
        return self._log.chain.tail.index

    def offer(self, append: Append, told: Told) -> int:
        self.offers.append((append, told))
        return 1

    async def open(self, *, overdue: bool) -> None:
        await asyncio.sleep(0)

    async def end_lsn(self, segment: int, producer: bytes, epoch: int) -> int:
        return self._log.chain.end_of_index(segment)

    async def until(self, count: int) -> None:
        """Wait until so many appends were sent."""
        while len(self.offers) < count:
            await asyncio.sleep(0)


@pytest.mark.parametrize("late", [Sealed(2), Committed(7, 7)])
def test_an_answer_to_what_was_given_up_on_is_not_the_answer_to_what_was_sent_again(
    late: Sealed | Committed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender_module, "POLL_SECONDS", 0.001)

    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        async with Appender(log, P, loop=mesh.house.loop) as one:
            lane = HeldLane(log)
            one._lane = lane  # type: ignore[assignment]
            answer = await one.submit([rec(1)])
            await lane.until(1)
            # The segment ends without it, and that is found out by reading.
            await log.reconfigure()
            await lane.until(2)
            (first, told_late), (second, told) = lane.offers
            assert first.producer is not None
            assert second.producer is not None
            assert second.producer.epoch > first.producer.epoch
            assert second.segment != first.segment
            told_late(late)
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert len(lane.offers) == 2
            assert not answer.done()
            told(Committed(5, 5))
        assert answer.result() == Committed(5, 5)

    run_mesh(scenario)


def test_a_segment_that_has_ended_is_sent_to_no_more_however_late_that_is_noticed() -> None:
    async def scenario(mesh: Mesh) -> None:
        log = await mesh.led("n1")
        away = await mesh.log("n2")
        async with Appender(away, P, loop=mesh.house.loop) as one:
            assert type(await one.append([rec(1)])) is Committed
            lane = one._lane
            assert lane.is_away
            before = lane.segment
            await log.reconfigure()
            await lane.open(overdue=True)
            assert before < lane.segment == away.chain.tail.index

    run_mesh(scenario)
