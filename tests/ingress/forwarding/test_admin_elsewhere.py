"""Admin REST at a node that does not lead: operations reach the leader, and count once."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from perdure.admin.api.invocation_operations import Operator
from perdure.admin.api.routes import Request
from perdure.admin.api.state import StateApi
from perdure.admin.errors import StateVersionError
from perdure.admin.view import AdminView
from perdure.core.ids import invocation_id_text
from perdure.ingress.requests import InvocationRequest
from perdure.partition_processor.processor import NotLeadingError

from .cluster import MS, Cluster, Node
from .ledgers import APP
from .test_forwarding import add, entries_of, value_of


def view_of(node: Node) -> AdminView:
    """The node as admin REST sees it, as far as is needed here."""
    return cast("AdminView", SimpleNamespace(manager=node.manager))


async def operated(node: Node, operation: str, *ids: str, **more: Any) -> list[str]:
    """The outcomes of an operation on invocations."""
    body = json.dumps({"ids": ids, **more}).encode()
    answer = await Operator(view_of(node)).operate(operation, body)
    return [result.outcome for result in answer.results]


def changing(key: str, entries: list[str] | None, **more: Any) -> Request:
    """A change of a ledger's state."""
    changes = [] if entries is None else [{"name": "entries", "json": entries}]
    body = {"service": "Ledger", "key": key, "changes": changes, **more}
    return Request(body=json.dumps(body).encode())


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


def test_a_state_is_changed_from_any_node_and_shown_by_the_one_that_leads() -> None:
    cluster = Cluster()

    async def scenario() -> None:
        await cluster.add_worker(APP)
        near, far = cluster.nodes
        key = cluster.keys_in(1, 1)[0]
        assert await value_of(near.call(add(key, "a"))[0]) == 1
        api = StateApi(view_of(near))
        answer = await api.change(changing(key, ["x", "y"]))
        assert (answer.outcome, answer.version) == ("done", "")
        assert await entries_of(near, key) == ["x", "y"]
        with pytest.raises(StateVersionError):
            await api.change(changing(key, ["z"], version="00" * 16))
        # One that has to wait for the object's lock tells of its turn.
        blocking = await near.send(InvocationRequest("Ledger", "collect", key, b"1"))
        queued = await api.change(changing(key, ["q"]))
        assert queued.outcome == "queued"

        async def give() -> None:
            await cluster.loop.pause(100 * MS)
            near.dispatcher.send_signal(blocking.invocation_id, "word", b'"w"', lambda _reply: None)

        giving = cluster.loop.create_task(give())
        changed = await api.change(changing(key, ["r"], wait_ms=10_000))
        await giving
        assert changed.outcome == "done"
        assert await entries_of(near, key) == ["r"]
        assert all(not place._pending for place in near.forwarding._partitions[:3])
        with pytest.raises(NotLeadingError, match="ask that one"):
            await api.show(Request(query=f"service=Ledger&key={key}"))
        assert await StateApi(view_of(far)).show(Request(query=f"service=Ledger&key={key}"))

    cluster.run(scenario())
