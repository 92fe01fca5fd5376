"""Sealing, reconfiguring and trimming by way of a node that does not lead: done once, or told."""

import asyncio
import json
from typing import Any

import pytest

from perdure.admin.api.answering import answer_error, answer_of
from perdure.admin.api.log_changes import LogChanges
from perdure.admin.api.reach import HOLD_SECONDS, Reach
from perdure.admin.api.routes import Request
from perdure.admin.elsewhere import Question
from perdure.core.errors import PerdureError, TransportError
from perdure.core.ids import LogId
from perdure.partition_processor.partition import OutcomeUnknownError
from perdure.partition_processor.processor import NotLeadingError

from .cluster import MS, Cluster, Node
from .ledgers import APP
from .test_forwarding import add, value_of

ACTIONS: dict[str, dict[str, Any]] = {"seal": {}, "reconfigure": {}, "trim": {"lsn": 1}}


async def changed(node: Node, action: str, log: int = 1, **body: Any) -> tuple[int, Any]:
    """The status and body of what a node answers."""
    changes = LogChanges(node.view, Reach(node.view))
    request = Request((str(log),), body=json.dumps(body or ACTIONS[action]).encode())
    try:
        answer = answer_of(await getattr(changes, action)(request))
    except PerdureError as error:
        answer = answer_error(error)
    return answer.status, json.loads(answer.body)


def counted(node: Node) -> list[str]:
    """The paths that a node asks others for from now on."""
    asked: list[str] = []
    ask = node.others.ask

    async def counting(name: str, question: Question) -> Any:
        asked.append(question.path)
        return await ask(name, question)

    node.others.ask = counting  # type: ignore[method-assign]
    return asked


async def segments(cluster: Cluster, log: int = 1) -> int:
    """How many segments a log has had, as a node reads it that leads nothing of it."""
    opened = await cluster.nodes[0].logs.open(LogId(log))
    await opened.refresh()
    return opened.chain.tail.index


def test_any_node_has_the_leader_change_a_log() -> None:
    cluster = Cluster(nodes=3)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        _, far, third = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        assert await value_of(far.call(add(key, "a"))[0]) == 1
        before = await segments(cluster)
        status, sealed = await changed(third, "seal", segment=before)
        assert (status, sealed["segment"], sealed["already_sealed"]) == (200, before, False)
        assert (await changed(third, "seal"))[1]["already_sealed"]
        status, opened = await changed(third, "reconfigure")
        assert (status, opened["was_sealed"], opened["new"]["segment"]) == (200, True, before + 1)
        assert await segments(cluster) == before + 1
        assert await value_of(far.call(add(key, "b"))[0]) == 2
        # What the leader has applied counts, not what this one has, and it refuses what is more.
        applied = far.durable_lsn(LogId(1))
        third.durable_lsn = lambda log: 0  # type: ignore[method-assign]
        status, refused = await changed(third, "trim", lsn=applied + 1)
        assert (status, refused["code"]) == (409, "PD1004")
        assert (await changed(third, "trim", lsn=applied))[1]["trim_point"] == applied
        status, refused = await changed(third, "seal", segment=99)
        assert (status, refused["code"]) == (409, "PD0811")
        assert (await changed(third, "reconfigure", provider="x"))[1]["code"] == "PD0814"
        assert (await changed(third, "seal", log=9))[1]["code"] == "PD0813"

    cluster.run(scenario())


@pytest.mark.parametrize("action", ACTIONS)
def test_without_a_leader_nothing_is_changed(action: str) -> None:
    cluster = Cluster()

    async def scenario() -> None:
        near, far = cluster.nodes
        before = await segments(cluster)
        far.give_up(1)
        cluster.tell_all(1, None)
        asked = counted(near)
        began = cluster.loop.now_ns
        status, body = await changed(near, action)
        assert (status, body["code"]) == (503, NotLeadingError.code)
        assert "nothing was changed" in body["message"]
        assert cluster.loop.now_ns - began < (HOLD_SECONDS + 1) * 1000 * MS
        assert (asked, await segments(cluster)) == ([], before)

        # The one that is to lead does not live.
        cluster.tell_all(1, far.name)
        far.alive = False
        status, body = await changed(near, action)
        assert (status, body["code"]) == (503, TransportError.code)
        assert "nothing was changed" in body["message"]
        assert "n1 is dead" in body["message"]

    cluster.run(scenario())


def test_nodes_that_send_each_other_to_the_other_are_no_circle() -> None:
    cluster = Cluster()

    async def scenario() -> None:
        near, far = cluster.nodes
        before = await segments(cluster)
        far.give_up(1)
        near.table.set(1, far.name)
        far.table.set(1, near.name)
        asked_far = counted(far)
        status, body = await changed(near, "reconfigure")
        assert (status, body["code"]) == (503, NotLeadingError.code)
        assert "nothing was changed" in body["message"]
        assert (asked_far, await segments(cluster)) == ([], before)

    cluster.run(scenario())


def test_a_lead_that_moves_is_waited_for() -> None:
    cluster = Cluster(nodes=3)

    async def scenario() -> None:
        near, _, third = cluster.nodes
        moving = cluster.loop.create_task(cluster.move(1, third))
        await cluster.loop.pause(MS)
        status, opened = await changed(near, "reconfigure")
        await moving
        assert status == 200, opened
        assert opened["new"]["epoch"] == third.processor(1).epoch > 1

    cluster.run(scenario())


@pytest.mark.parametrize("ends", ["dies", "is lost", "is slow"])
@pytest.mark.parametrize("action", ACTIONS)
def test_what_may_have_been_done_is_told_and_not_asked_again(action: str, ends: str) -> None:
    cluster = Cluster()

    async def scenario() -> None:
        near, far = cluster.nodes
        asked = counted(near)
        reached = asyncio.Event()

        async def never(log: LogId, **_: Any) -> Any:
            reached.set()
            await asyncio.Event().wait()

        far.logs.open = never  # type: ignore[method-assign]
        asking = cluster.loop.create_task(changed(near, action))
        await reached.wait()
        if ends == "dies":
            far.alive = False
        elif ends == "is lost":
            cluster.network.cut(far.name)
        status, body = await asking
        assert (status, body["code"]) == (504, OutcomeUnknownError.code)
        assert f"POST /logs/1/{action} was asked of node n1" in body["message"]
        assert "may have been done or not" in body["message"]
        assert asked == [f"/logs/1/{action}"]

    cluster.run(scenario())
