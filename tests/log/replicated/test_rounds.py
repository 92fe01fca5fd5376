"""Sequencers of one node send together and one batch at a time, and wait for nobody for long."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from perdure.log.chain import Segment
from perdure.log.replicated.rounds import FACTOR, LONG_SECONDS_MAX, SLACK_SECONDS, Rounds
from perdure.testing.simulation.loop import SimulationLoop, run_simulated

from ..support import record, segment_of, turns
from .support import Cluster
from .test_loglet import filled, has_tail, run

LITTLE = SLACK_SECONDS / 10


class Sender:
    """Has something to send whenever `send_later` is called."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._scheduled = False
        self.sent = 0

    def send_later(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        if self._rounds.may_send(self):
            self.sent += 1


def on_rounds(story: Callable[[Rounds], Coroutine[Any, Any, None]]) -> None:
    loop = SimulationLoop()
    run_simulated(story(Rounds(loop)), loop)


async def asked(*senders: Sender) -> list[int]:
    """Have all of them ask in one turn; how often each has sent so far."""
    for sender in senders:
        sender.send_later()
    return await sent(*senders)


async def sent(*senders: Sender) -> list[int]:
    await turns()
    return [sender.sent for sender in senders]


def test_a_sender_has_one_batch_under_way() -> None:
    async def story(rounds: Rounds) -> None:
        one = Sender(rounds)
        assert await asked(one) == [1]
        assert await asked(one) == [1]
        await asyncio.sleep(10 * SLACK_SECONDS)
        assert await asked(one) == [1]
        rounds.committed(one)
        assert await sent(one) == [2]
        rounds.committed(one)
        # Nothing was held back meanwhile.
        assert await sent(one) == [2]

    on_rounds(story)


def test_senders_of_one_turn_go_together_and_others_after_all_of_them() -> None:
    async def story(rounds: Rounds) -> None:
        one, two, three = Sender(rounds), Sender(rounds), Sender(rounds)
        assert await asked(one, two) == [1, 1]
        assert await asked(one, three) == [1, 0]
        rounds.committed(one)
        assert await sent(one, three) == [1, 0]
        rounds.committed(two)
        assert await sent(one, three) == [2, 1]

    on_rounds(story)


def test_a_slow_sender_holds_others_back_once_and_for_a_moment_only() -> None:
    async def story(rounds: Rounds) -> None:
        slow, other = Sender(rounds), Sender(rounds)
        assert await asked(slow) == [1]
        assert await asked(slow, other) == [1, 0]
        await asyncio.sleep(SLACK_SECONDS + LITTLE)
        assert (slow.sent, other.sent) == (1, 1)
        # The slow one is in no round any more, so that nobody waits for it a second time.
        rounds.committed(other)
        assert await asked(other) == [2]
        rounds.committed(other)
        rounds.committed(slow)
        assert await sent(slow) == [2]
        # Nor does anybody after that, before it has been quick again.
        assert await asked(other) == [3]
        rounds.committed(other)
        rounds.committed(slow)
        await asked(slow)
        assert await asked(other) == [3]

    on_rounds(story)


def test_what_commits_during_a_later_round_waits_for_that_a_moment_only() -> None:
    async def story(rounds: Rounds) -> None:
        slow, other = Sender(rounds), Sender(rounds)
        await asked(slow)
        await asked(slow)
        await asyncio.sleep(SLACK_SECONDS + LITTLE)
        assert await asked(other) == [1]
        rounds.committed(slow)
        assert await sent(slow) == [1]
        await asyncio.sleep(2 * SLACK_SECONDS)
        assert slow.sent == 2

    on_rounds(story)


async def used_to(rounds: Rounds, seconds: float, count: int = 200) -> None:
    """Have so many commits take so long."""
    sender = Sender(rounds)
    for _ in range(count):
        await asked(sender)
        await asyncio.sleep(seconds)
        rounds.committed(sender)
    rounds.leave(sender)


@pytest.mark.parametrize(
    ("usual", "count", "longest"),
    [
        (5 * SLACK_SECONDS, 200, (5 * FACTOR + 1) * SLACK_SECONDS),
        # A whole minute, and many of them.
        (60, 1, 2 * SLACK_SECONDS),
        (60, 200, LONG_SECONDS_MAX),
    ],
)
def test_what_is_long_goes_by_what_is_usual(usual: float, count: int, longest: float) -> None:
    async def story(rounds: Rounds) -> None:
        one, two = Sender(rounds), Sender(rounds)
        await used_to(rounds, usual, count)
        await asked(one)
        assert await asked(two) == [0]
        await asyncio.sleep(longest / 2)
        assert two.sent == 0
        await asyncio.sleep(longest / 2 + LITTLE)
        assert two.sent == 1

    on_rounds(story)


def test_nobody_waits_for_whoever_has_left() -> None:
    async def story(rounds: Rounds) -> None:
        one, two = Sender(rounds), Sender(rounds)
        await asked(one)
        assert await asked(one, two) == [1, 0]
        rounds.leave(one)
        assert await sent(one, two) == [1, 1]

    on_rounds(story)


def test_records_that_come_while_a_batch_is_under_way_make_one_batch() -> None:
    async def story(cluster: Cluster) -> None:
        loglet = cluster.provider("n1").open(segment_of(cluster.provider("n1")))
        heard = await filled(loglet, 1)
        await cluster.stop_server("s1")
        await cluster.stop_server("s3")
        for number in range(2, 6):
            loglet.enqueue([record(number)])
            await turns()
        await cluster.restart_server("s3")
        await loglet.wait_for_tail(5)

        assert heard.numbers == [1, 2, 3, 4, 5]
        assert [len(batch.records) for batch in heard.batches] == [1, 1, 3]

    run(story)


def test_what_is_held_back_goes_out_before_a_seal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.log.replicated.rounds.SLACK_SECONDS", 60)

    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        other = cluster.provider("n1").open(segment_of(cluster.provider("n1"), 2))
        heard = await filled(loglet, 1)
        await cluster.stop_server("s1")
        await cluster.stop_server("s3")
        loglet.enqueue([record(2)])
        other.enqueue([record(9)])
        await turns()
        loglet.enqueue([record(3)])
        await turns()
        sealing = asyncio.create_task(loglet.seal())
        await has_tail(cluster, "s2", segment, 4)
        await cluster.restart_server("s3")
        await sealing

        assert heard.numbers == [1, 2, 3]

    run(story)


async def known_tail(cluster: Cluster, segment: Segment) -> int:
    await turns(10)
    loglet = segment.params.loglet
    return max(server._loglets[loglet].known_tail for server in cluster.servers.values())


def test_batches_tell_what_is_committed_and_nothing_else_does_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("perdure.log.replicated.replicator.RELEASE_SECONDS", 60)

    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        loglet = cluster.provider("n1").open(segment)
        await filled(loglet, 1)
        assert await known_tail(cluster, segment) == 1
        await filled(loglet, 1)
        assert await known_tail(cluster, segment) == 2

    run(story)


def test_what_is_committed_last_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.log.replicated.replicator.RELEASE_SECONDS", 0)

    async def story(cluster: Cluster) -> None:
        segment = segment_of(cluster.provider("n1"))
        await filled(cluster.provider("n1").open(segment), 1, 1)
        while await known_tail(cluster, segment) < 3:
            pass

    run(story)
