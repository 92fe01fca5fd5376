"""Admin REST of any node answers for the whole cluster, and says what it could not ask."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from perdure.admin.api import invocation_pages
from perdure.admin.api.answering import answer_of
from perdure.admin.api.deployments import DeploymentsApi
from perdure.admin.api.invocations import InvocationsApi
from perdure.admin.api.reach import HOLD_SECONDS, Reach
from perdure.admin.api.routes import Request
from perdure.admin.api.services import ServicesApi
from perdure.admin.api.state import StateApi
from perdure.admin.api.workers import WorkersApi
from perdure.admin.elsewhere import AnswerLostError, Question
from perdure.core.errors import TransportError
from perdure.core.ids import (
    InvocationId,
    invocation_id_text,
    parse_invocation_id,
    partition_key_of,
    partition_of,
)
from perdure.ingress.requests import InvocationRequest
from perdure.partition_processor.processor import NotLeadingError

from .cluster import MS, Cluster, Node
from .ledgers import APP
from .test_forwarding import add, value_of


def api_of(node: Node) -> InvocationsApi:
    """The invocations as a node tells of them."""
    return InvocationsApi(node.view, Reach(node.view))


async def told(answer: Any) -> Any:
    """What an answer is as JSON."""
    shown = answer_of(await answer)
    assert shown.status == 200, shown
    return json.loads(shown.body)


async def listed(node: Node, query: str = "", limit: int = 100) -> tuple[list[str], list[Any]]:
    """The ids of all pages, in order, and what was missing."""
    ids: list[str] = []
    missing: list[Any] = []
    after = ""
    while True:
        page = await told(
            api_of(node).list_invocations(Request(query=f"limit={limit}{query}{after}"))
        )
        assert len(page["invocations"]) <= limit
        ids += [row["id"] for row in page["invocations"]]
        missing += page["missing"]
        if page["next"] is None:
            return ids, missing
        after = f"&after={page['next']}"


async def collecting(cluster: Cluster, each: int) -> list[str]:
    """Start so many invocations in each partition that wait; their ids, in the order of starts."""
    await cluster.add_worker(APP)
    keys = [cluster.keys_in(partition, each) for partition in range(cluster.partition_count)]
    ids = []
    for group in zip(*keys, strict=True):
        for key in group:
            sent = await cluster.nodes[0].send(InvocationRequest("Ledger", "collect", key, b"1"))
            ids.append(invocation_id_text(sent.invocation_id))
            await cluster.loop.pause(MS)
    return ids


def in_order(ids: Iterable[str]) -> list[str]:
    """As they are stored."""
    return sorted(ids, key=parse_invocation_id)


def crash(node: Node) -> None:
    """Have a node be dead, and the others know it."""
    node.alive = False
    node.crash()


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_every_node_lists_all_invocations_in_one_order(limit: int) -> None:
    cluster = Cluster(nodes=3, partitions=5)

    async def scenario() -> None:
        started = await collecting(cluster, 3)
        for node in cluster.nodes:
            assert await listed(node, limit=limit) == (in_order(started), [])
            assert await listed(node, "&order=oldest", limit) == (started, [])
            assert await listed(node, "&service=Nobody", limit) == ([], [])
            key = cluster.keys_in(4, 1)[0]
            assert len((await listed(node, f"&key={key}", limit))[0]) == 1

    cluster.run(scenario())


@pytest.mark.parametrize("scanned", [1, 2, 5])
def test_a_page_ends_where_the_first_node_has_ended_its_part(
    monkeypatch: pytest.MonkeyPatch, scanned: int
) -> None:
    monkeypatch.setattr(invocation_pages, "SCANNED_MAX", scanned)
    cluster = Cluster(nodes=3, partitions=5)

    async def scenario() -> None:
        started = await collecting(cluster, 3)
        key = cluster.keys_in(3, 1)[0]
        await value_of(
            cluster.nodes[0].call(InvocationRequest("Relay", "spread", None, b'["x"]'))[0]
        )
        for node in cluster.nodes:
            assert await listed(node, "&handler=collect", 4) == (in_order(started), [])
            assert await listed(node, "&handler=spread", 4) == ([], [])
            assert len((await listed(node, f"&key={key}", 4))[0]) == 1

    cluster.run(scenario())


def test_what_a_dead_node_leads_is_named_and_what_moves_is_waited_for() -> None:
    cluster = Cluster(nodes=3, partitions=6)

    async def scenario() -> None:
        started = await collecting(cluster, 1)
        near, _, lost = cluster.nodes
        crash(lost)
        before = cluster.loop.time()
        ids, missing = await listed(near)
        assert HOLD_SECONDS <= cluster.loop.time() - before < 2 * HOLD_SECONDS
        [one] = missing
        assert (one["node"], one["partitions"], one["code"]) == (lost.name, [2, 5], "PD0201")
        assert "dead" in one["message"]
        assert in_order(ids) == in_order(set(started) - {started[2], started[5]})
        # A key of a partition that is led has nothing missing.
        assert (await listed(near, f"&key={cluster.keys_in(1, 1)[0]}"))[1] == []
        with pytest.raises(TransportError, match="dead"):
            await told(api_of(near).describe(Request((started[2],))))

        # Others take the lead while it is asked.
        asked = cluster.loop.create_task(listed(near))
        await cluster.loop.pause(1000 * MS)
        for partition in (2, 5):
            await cluster.nodes[partition % 2].lead(partition)
            cluster.tell_all(partition, cluster.nodes[partition % 2].name)
        assert await asked == (in_order(started), [])

        cluster.tell_all(2, None)
        cluster.nodes[0].give_up(2)
        _, [one] = await listed(near)
        assert (one["node"], one["partitions"], one["code"]) == (None, [2], "PD0906")
        with pytest.raises(NotLeadingError, match="no node is known to lead"):
            await told(api_of(near).describe(Request((started[2],))))

    cluster.run(scenario())


def test_nothing_old_is_told_by_a_node_that_was_deposed() -> None:
    cluster = Cluster(nodes=2, partitions=2, told_late_ns=0)

    async def scenario() -> None:
        started = await collecting(cluster, 1)
        near, far = cluster.nodes
        cluster.network.cut(near.name)
        await far.lead(0)
        assert near.processor(0).leading  # It has not heard of it.
        page = await told(
            InvocationsApi(near.view, Reach(near.view, alone=True)).list_invocations(Request())
        )
        assert page["invocations"] == []
        assert [item["partitions"] for item in page["missing"]] == [[0, 1]]
        assert started

    cluster.run(scenario())


def test_an_invocation_and_what_it_is_linked_with_are_told_by_any_node() -> None:
    cluster = Cluster(nodes=3, partitions=3)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near = cluster.nodes[0]
        seen: set[tuple[int, int]] = set()
        for number in range(20):
            key = cluster.keys_in(number % 3, 1)[0]
            order = json.dumps([key, "x"]).encode()
            asked = cluster.nodes[number % 2]
            call, pending = asked.call(InvocationRequest("Relay", "pass_on", None, order))
            await value_of(call)
            parent = invocation_id_text(pending.invocation_id)
            child = await child_of(near, parent)
            details = [
                await told(api_of(node).describe(Request((child,)))) for node in cluster.nodes
            ]
            assert {item["started_by"]["id"] for item in details} == {parent}
            assert {item["started_by"]["target"] for item in details} == {"Relay/pass_on"}
            assert {item["started_by"]["status"] for item in details} == {"completed"}
            whole = [{**item, "now": None} for item in details]
            assert whole == [whole[0]] * 3
            seen.add(
                (
                    partition_of(partition_key_of(pending.invocation_id), 3),
                    cluster.partition_of(key),
                )
            )
        assert len(seen) > 3

    cluster.run(scenario())


async def child_of(node: Node, parent: str) -> str:
    """The call that an invocation has made."""
    detail = await told(api_of(node).describe(Request((parent,))))
    [call] = [entry for entry in detail["journal"] if entry["entry"] == "Call"]
    found: str = json.dumps(call)
    return found[found.index("inv_1") :][: len(parent)]


def test_an_error_of_the_leader_is_passed_on() -> None:
    cluster = Cluster(nodes=2, partitions=2)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        unknown = next(
            InvocationId(bytes([number]) + bytes(23))
            for number in range(256)
            if partition_of(partition_key_of(InvocationId(bytes([number]) + bytes(23))), 2) == 1
        )
        text = invocation_id_text(unknown)
        answer = answer_of(await api_of(cluster.nodes[0]).describe(Request((text,))))
        assert answer.status == 404
        assert json.loads(answer.body)["code"] == "PD1001"

    cluster.run(scenario())


def test_workers_and_pinned_invocations_of_all_nodes_are_counted_once() -> None:
    cluster = Cluster(nodes=3, partitions=6)

    async def scenario() -> None:
        # Whoever calls an object that is held has stored the call, and so is pinned.
        await collecting(cluster, 1)
        for number in range(12):
            key = cluster.keys_in(number % 6, 1)[0]
            order = json.dumps([key, "x"]).encode()
            node = cluster.nodes[number % 3]
            await node.send(InvocationRequest("Relay", "pass_on", None, order))
        await cluster.loop.pause(1000 * MS)
        for node in cluster.nodes:
            reach = Reach(node.view)
            workers = WorkersApi(node.view, reach)
            services = await ServicesApi(node.view, workers).list_services(Request())
            assert {(row.name, row.workers) for row in services.services} == {
                ("Ledger", 1),
                ("Relay", 1),
                ("Trip", 1),
            }
            deployments = await DeploymentsApi(node.view, reach, workers).list_deployments(
                Request()
            )
            [row] = deployments.deployments
            assert (row.workers, row.pinned, row.pinned_all_counted) == (1, 12, True)
            assert deployments.missing == []
        crash(cluster.nodes[2])
        [near, _, _] = cluster.nodes
        reach = Reach(near.view)
        workers = WorkersApi(near.view, reach)
        answer = await DeploymentsApi(near.view, reach, workers).list_deployments(Request())
        [row] = answer.deployments
        assert (0 < row.pinned < 12, row.pinned_all_counted) == (True, False)
        assert [item.partitions for item in answer.missing] == [[2, 5]]
        # Its workers are known at the others, so that nothing of them is missing.
        services = await ServicesApi(near.view, workers).list_services(Request())
        assert services.missing == []

    cluster.run(scenario())


def test_a_node_that_is_silent_is_given_up_when_it_is_dead() -> None:
    cluster = Cluster(nodes=2, partitions=2)

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        await value_of(near.call(add(key, "a"))[0])
        state = StateApi(near.view, Reach(near.view))
        request = Request(query=f"service=Ledger&key={key}")
        assert await told(state.show(request))

        # The far end takes the question and never answers, as a process that is stopped.
        never: asyncio.Future[None] = cluster.loop.create_future()

        async def freeze() -> None:
            await never

        far.processor(1).confirm_lead = freeze  # type: ignore[method-assign]
        asked = cluster.loop.create_task(
            near.others.ask(far.name, Question("GET", "/state", f"service=Ledger&key={key}"))
        )
        await cluster.loop.pause(1000 * MS)
        assert not asked.done()
        far.alive = False
        with pytest.raises(AnswerLostError, match="died before it had answered"):
            await asked
        far.alive = True

    cluster.run(scenario())


def test_what_makes_no_sense_is_refused() -> None:
    cluster = Cluster(nodes=2, partitions=2)

    async def scenario() -> None:
        near, far = cluster.nodes
        for question, status, code in (
            (Question("GET", "/metrics"), 404, "PD1001"),
            (Question("POST", "/state"), 405, "PD1002"),
            (Question("GET", "/led/invocations", "partitions=7"), 400, "PD1003"),
            (Question("GET", "/led/invocations", "partitions=x"), 400, "PD1003"),
            (Question("POST", "/led/related", body=b'{"ids":["x"]}'), 400, "PD1003"),
        ):
            answer = await near.others.ask(far.name, question)
            body = msgspec.json.decode(answer.body)
            assert (answer.status, body["code"]) == (status, code)

    cluster.run(scenario())
