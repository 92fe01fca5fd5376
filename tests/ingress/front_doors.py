"""A real node in this process behind its HTTP front door, for tests of what is answered."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from perdure.ingress.http import HttpIngress
from perdure.sdk import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
    app,
)
from perdure.testing import InProcessNode

greeter = Service("Greeter")
hidden = Service("Hidden", ingress_private=True)
box = VirtualObject("Box")
trip = Workflow("Trip")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


@greeter.handler()
async def fail(ctx: Context, name: str) -> str:
    raise TerminalError("no greeting today", status_code=418)


@greeter.handler()
async def raw(ctx: Context, body: bytes) -> bytes:
    return body[::-1]


@greeter.handler(accept="text/*", content_type="text/plain")
async def text(ctx: Context, body: bytes) -> bytes:
    return body


@greeter.handler()
async def nothing(ctx: Context) -> None:
    return None


@greeter.handler(ingress_private=True)
async def secret(ctx: Context) -> None:
    return None


@greeter.handler()
async def wait_for_signal(ctx: Context) -> str:
    return await ctx.signal("go", type_hint=str)


@hidden.handler()
async def inside(ctx: Context) -> None:
    return None


@box.handler()
async def wait(ctx: ObjectContext) -> str:
    awakeable_id, answer = ctx.awakeable(type_hint=str)
    ctx.set("awaited", awakeable_id)
    return await answer


@box.handler(kind="shared")
async def awaited(ctx: ObjectSharedContext) -> str | None:
    return await ctx.get("awaited", type_hint=str)


@trip.main()
async def run(ctx: WorkflowContext, place: str) -> str:
    return await ctx.promise("tickets", type_hint=str) + f" to {place}"


@trip.handler()
async def book(ctx: WorkflowSharedContext, tickets: str) -> None:
    await ctx.promise("tickets", type_hint=str).resolve(tickets)


class Answer(NamedTuple):
    """What a request got."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Door:
    """A node's HTTP front door, and the node behind it."""

    def __init__(self, node: InProcessNode, address: str) -> None:
        self.node = node
        self.address = address

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """One request on a connection of its own."""
        return await asyncio.to_thread(self._ask, method, path, body, headers)

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, names)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    async def post_json(self, path: str, value: object, **headers: str) -> Answer:
        """One request with a JSON body."""
        body = json.dumps(value).encode()
        return await self.ask("POST", path, body, content_type="application/json", **headers)


NODE_OPTIONS = ["partitions.count=2", "log.sync_inline=always"]


@asynccontextmanager
async def open_node(*options: str, worker: bool = True) -> AsyncIterator[InProcessNode]:
    """A node with a worker that runs all services here."""
    async with InProcessNode(options=[*NODE_OPTIONS, *options]) as node:
        if worker:
            await node.add_worker(app([greeter, hidden, box, trip]))
        yield node


@asynccontextmanager
async def open_door(*options: str) -> AsyncIterator[Door]:
    """A node and its HTTP front door on a free port."""
    async with open_node(*options) as node:
        ingress = HttpIngress(node.engine.dispatcher, stop_grace_seconds=0.2)
        address = await ingress.start("127.0.0.1:0")
        try:
            yield Door(node, address)
        finally:
            await ingress.stop()
