"""A real node in this process, its logs behind admin REST, and a worker that counts and greets."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

from perdure.admin.http import AdminServer
from perdure.core.clock import ManualClock
from perdure.core.ids import LogId
from perdure.core.metrics import Metrics
from perdure.log import VirtualLog
from perdure.node.admin_view import NodeView
from perdure.sdk import Context, ObjectContext, Service, VirtualObject, app
from perdure.sdk.service import App
from perdure.testing import InProcessNode

START_NS = 1_700_000_000_000_000_000
SECOND_NS = 10**9

greeter = Service("Greeter")
counter = VirtualObject("Counter")
_Result = TypeVar("_Result")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    """Greet somebody."""
    return f"Hello {name}"


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    """Add to the counter and give its new value."""
    value = (await ctx.get("value", type_hint=int) or 0) + amount
    ctx.set("value", value)
    return value


class Answered(NamedTuple):
    """What admin REST answered."""

    status: int
    headers: dict[str, str]
    body: Any


class LogsNode:
    """A node with one partition, on a clock of its own.

    Attributes:
        node: the node.
        clock: moved on by a second before each call.
        view: what admin REST looks at.
        address: where admin REST listens.
    """

    def __init__(self, node: InProcessNode, clock: ManualClock, view: NodeView) -> None:
        """Take a node that runs."""
        self.node, self.clock, self.view = node, clock, view
        self.address = ""

    async def log(self) -> VirtualLog:
        """The one log."""
        return await self.view.logs.open(LogId(0))

    async def add(self, key: str, amount: int = 1) -> str:
        """Call a counter, a second after whatever was before; the invocation's id."""
        self.clock.advance(SECOND_NS)
        completed = await self.node.call("Counter", "add", str(amount).encode(), key=key)
        return completed.invocation_id

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answered:
        """Ask admin REST over HTTP; a body is sent as JSON unless it is bytes."""
        return await asyncio.to_thread(self._ask, method, path, body, headers)

    def _ask(self, method: str, path: str, body: object, headers: dict[str, str]) -> Answered:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json"} if method == "POST" else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            text = response.read()
            return Answered(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                json.loads(text),
            )
        finally:
            connection.close()

    async def get(self, path: str) -> Any:
        """What a resource that is there shows."""
        answer = await self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.body

    async def post(self, path: str, body: object) -> Any:
        """What came of something that is done."""
        answer = await self.ask("POST", path, body)
        assert answer.status == 200, answer
        return answer.body

    async def page(self, **query: object) -> Any:
        """A page of records; ``from_`` stands for from."""
        text = "&".join(f"{name.rstrip('_')}={value}" for name, value in query.items())
        return await self.get(f"/logs/0/records?{text}")

    async def until_durable(self, lsn: int) -> None:
        """Wait until the node has stored durably what the record at `lsn` did."""
        async with asyncio.timeout(60):
            while self.view.durable_lsn(LogId(0)) < lsn:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def logs_node(*options: str, offered: App | None = None) -> AsyncIterator[LogsNode]:
    """A node, its worker and admin REST on a free port; `offered` instead of the usual app."""
    clock = ManualClock(START_NS)
    settings = ["partitions.count=1", "log.sync_inline=always", *options]
    async with InProcessNode(options=settings, clock=clock) as node:
        await node.add_worker(offered or app([greeter, counter]))
        view = NodeView(node.engine, clock=clock, node_name="node-1", cluster="perdure")
        running = LogsNode(node, clock, view)
        server = AdminServer(view, Metrics())
        running.address = await server.start("127.0.0.1:0")
        try:
            yield running
        finally:
            await server.stop()


def on_logs_node(
    scenario: Callable[[LogsNode], Awaitable[_Result]], *options: str, offered: App | None = None
) -> _Result:
    """Run a scenario on a node of its own."""

    async def run() -> _Result:
        async with logs_node(*options, offered=offered) as node:
            return await scenario(node)

    return asyncio.run(run())
