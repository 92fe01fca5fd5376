"""Admin REST at a node that does not lead: operations reach the leader, and count once."""

import json
from typing import Any

import pytest

from perdure.admin.api.answering import answer_of
from perdure.admin.api.invocation_answers import OperationAnswer
from perdure.admin.api.invocation_operations import Operator
from perdure.admin.api.invocation_scan import status_of
from perdure.admin.api.reach import Reach
from perdure.admin.api.routes import Request
from perdure.admin.api.state import StateApi
from perdure.admin.errors import StateVersionError
from perdure.core.ids import invocation_id_text, parse_invocation_id
from perdure.ingress.requests import InvocationRequest
from perdure.partition_processor.processor import NotLeadingError

from .cluster import MS, Cluster, Node
from .ledgers import APP
from .test_forwarding import add, entries_of, value_of


async def operated(node: Node, operation: str, *ids: str, **more: Any) -> list[str]:
    """The outcomes of an operation on invocations."""
    body = json.dumps({"ids": ids, **more}).encode()
    return [result.outcome for result in (await results_of(node, operation, body)).results]


async def results_of(node: Node, operation: str, body: bytes) -> OperationAnswer:
    """What an operation came to."""
    return await Operator(node.view, Reach(node.view)).operate(operation, body)


def changing(key: str, entries: list[str] | None, **more: Any) -> Request:
    """A change of a ledger's state."""
    changes = [] if entries is None else [{"name": "entries", "json": entries}]
    body = {"service": "Ledger", "key": key, "changes": changes, **more}
    return Request(body=json.dumps(body).encode())


async def state_of(node: Node, key: str) -> Any:
    """The state of a ledger, asked of a node."""
    api = StateApi(node.view, Reach(node.view))
    shown = answer_of(await api.show(Request(query=f"service=Ledger&key={key}")))
    assert shown.status == 200
    return json.loads(shown.body)


def test_operations_on_invocations_of_another_node() -> None:
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, _ = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        ids = []
        for _ in range(3):
            sent = await near.send(InvocationRequest("Ledger", "collect", key, b"1"))
            ids.append(invocation_id_text(sent.invocation_id))
        here = await near.send(
            InvocationRequest("Ledger", "collect", cluster.keys_in(0, 1)[0], b"1")
        )
        ids.append(invocation_id_text(here.invocation_id))
        assert await operated(near, "resume", ids[0], deployment="keep") == ["unchanged"]
        assert await operated(near, "restart", ids[0]) == ["not completed"]
        assert await operated(near, "kill", *ids) == ["done"] * 4
        assert await operated(near, "kill", *ids) == ["completed"] * 4
        assert await operated(near, "restart", ids[1], ids[3]) == ["done", "done"]
        assert await operated(near, "purge", *ids) == ["done"] * 4
        assert await operated(near, "cancel", *ids) == ["not found"] * 4

    cluster.run(scenario())


def test_what_waits_for_a_worker_elsewhere_goes_on_with_other_code() -> None:
    cluster = Cluster(nodes=3)

    async def scenario() -> None:
        stop = await cluster.add_worker(APP)
        near, far, third = cluster.nodes
        ids = []
        for partition in (1, 0, 2):
            key = cluster.keys_in(partition, 1)[0]
            sent = await near.send(InvocationRequest("Ledger", "pinned", key, b"1"))
            ids.append(invocation_id_text(sent.invocation_id))
        processor = far.processor(1)
        moving = parse_invocation_id(ids[0])

        def status() -> str:
            invocation = processor.transaction.invocation(moving)
            assert invocation is not None
            return status_of(processor, moving, invocation)

        async def until(wanted: str) -> None:
            while status() != wanted:
                await cluster.loop.pause(MS)

        # What runs is not moved under its worker, whoever is asked.
        await cluster.add_worker(APP, "newer", "d2")
        while (row := processor.transaction.invocation(moving)) is None or not row.deployment:
            await cluster.loop.pause(MS)
        assert (status(), row.deployment) == ("running", "d1")
        body = json.dumps({"ids": ids[:1], "deployment": "d2"}).encode()
        for node in cluster.nodes:
            (refused,) = (await results_of(node, "resume", body)).results
            assert (refused.outcome, refused.code) == ("refused", "PD1008"), refused
            assert "runs on a worker of d1" in refused.message

        stop.set()
        await until("ready")
        body = json.dumps({"ids": [*ids, "inv_2"], "deployment": "latest"}).encode()
        answer = await results_of(near, "resume", body)
        assert [item.outcome for item in answer.results] == [*["done"] * 3, "malformed id"]
        assert [item.id for item in answer.results] == [*ids, "inv_2"]
        await until("running")
        invocation = processor.transaction.invocation(moving)
        assert invocation is not None
        assert invocation.deployment == "d2"
        # It is there by now.
        assert await operated(third, "resume", ids[0], deployment="d2") == ["unchanged"]

        far.give_up(1)
        cluster.tell_all(1, None)
        body = json.dumps({"ids": ids, "deployment": "latest"}).encode()
        answer = await results_of(near, "resume", body)
        assert [item.outcome for item in answer.results] == ["refused", "unchanged", "unchanged"]
        assert answer.results[0].code == NotLeadingError.code

    cluster.run(scenario())


def test_a_state_is_changed_from_any_node_and_shown_at_any() -> None:
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        assert await value_of(near.call(add(key, "a"))[0]) == 1
        api = StateApi(near.view, Reach(near.view))
        answer = await api.change(changing(key, ["x", "y"]))
        shown = await state_of(near, key)
        assert (answer.outcome, answer.version) == ("done", shown["version"])
        assert shown["entries"][0]["value"]["json"] == ["x", "y"]
        assert await entries_of(near, key) == ["x", "y"]
        with pytest.raises(StateVersionError):
            await api.change(changing(key, ["z"], version="00" * 16))
        # One that has to wait for the object's lock tells of its turn.
        blocking = await near.send(InvocationRequest("Ledger", "collect", key, b"1"))
        queued = await api.change(changing(key, ["q"]))
        assert queued.outcome == "queued"
        assert queued.holder is not None
        assert queued.holder.id == invocation_id_text(blocking.invocation_id)

        async def give() -> None:
            await cluster.loop.pause(100 * MS)
            near.dispatcher.send_signal(blocking.invocation_id, "word", b'"w"', lambda _reply: None)

        giving = cluster.loop.create_task(give())
        changed = await api.change(changing(key, ["r"], wait_ms=10_000))
        await giving
        assert changed.outcome == "done"
        assert await entries_of(near, key) == ["r"]
        assert all(not place._pending for place in near.forwarding._partitions[:3])
        assert await state_of(near, key) == await state_of(far, key)

    cluster.run(scenario())
