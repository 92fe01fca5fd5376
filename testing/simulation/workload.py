"""What a world's clients ask for, the app that its workers run, and the history of both."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from ...core.hashing import keyed_partition_key, unkeyed_partition_key
from ...core.ids import InvocationId, unique_part
from ...ingress.requests import InvocationRequest
from ...sdk.context import Context, ObjectContext
from ...sdk.service import App, Service, VirtualObject
from .chance import Chance
from .loop import WALL_START_NS, SimulationLoop
from .trace import Trace

MS: Final = 1_000_000
COUNTER: Final = "Counter"
GO: Final = "go"
"""The signal that ``Chores/linger`` and ``Chores/listen`` wait for."""
TUNE: Final = list(range(8))
"""What ``Chores/listen`` hears, if each signal comes once."""


@dataclass(slots=True)
class Operation:
    """One request of one client, with every try of it.

    Attributes:
        amount: what it adds to the counter of its key; 0 when it is no add.
        wait: for the result, not only until it is durable.
        invoked_ns: virtual time of the first try.
        accepted_ns: when the node first said that it is durable, None before.
        answered_ns: when the node first gave the result, None before.
        value: that result.
    """

    name: str
    request: InvocationRequest
    amount: int
    wait: bool
    invoked_ns: int = 0
    accepted_ns: int | None = None
    answered_ns: int | None = None
    invocation_id: InvocationId | None = None
    value: bytes = b""
    tries: int = 0


@dataclass(slots=True)
class History:
    """Every operation of a world, in the order of their first tries.

    Attributes:
        others: invocations that are no client's.
    """

    operations: list[Operation] = field(default_factory=list)
    others: set[InvocationId] = field(default_factory=set)

    def acknowledged(self) -> list[Operation]:
        """Those that the node said are durable, or answered."""
        return [item for item in self.operations if item.accepted_ns is not None]

    def answered(self) -> list[Operation]:
        """Those that the node gave a result for."""
        return [item for item in self.operations if item.answered_ns is not None]


class OperationMaker:
    """Draws operations."""

    def __init__(self, loop: SimulationLoop, chance: Chance) -> None:
        """Draw the mix of operations once, then each operation."""
        self._loop = loop
        self._chance = chance
        self._keys = [f"key-{number}" for number in range(chance.between(1, 3))]
        self._adds = chance.pick((0.3, 0.6, 0.9))
        self._made = 0

    def make(self, client: str) -> Operation:
        """One operation of a client."""
        self._made += 1
        chance = self._chance
        name = f"{client}-{self._made}"
        wait = not chance.happens(0.2)
        if chance.happens(self._adds):
            amount = chance.between(1, 3)
            handler = "add_slowly" if chance.happens(0.2) else "add"
            return Operation(
                name,
                self._request(COUNTER, handler, chance.pick(self._keys), b"%d" % amount, name),
                amount,
                wait,
            )
        service, handler = chance.pick(
            (
                ("Greeter", "greet"),
                ("Chores", "steps"),
                ("Chores", "flaky"),
                ("Chores", "slow"),
                ("Chores", "nap"),
                ("Chores", "delegate"),
                ("Chores", "ask"),
            )
        )
        body = b'"%s"' % name.encode()
        return Operation(name, self._request(service, handler, None, body, name), 0, wait)

    def _request(
        self, service: str, handler: str, key: str | None, body: bytes, name: str
    ) -> InvocationRequest:
        """Retried under an idempotency key or, now and then, under an id of the client's own."""
        if self._chance.happens(0.7):
            return InvocationRequest(service, handler, key, body, idempotency_key=name)
        if key is None:
            routing = unkeyed_partition_key(service, self._chance.between(0, 511))
        else:
            routing = keyed_partition_key(key)
        unique = unique_part(WALL_START_NS + self._loop.now_ns, self._chance)
        invocation_id = InvocationId(routing.to_bytes(8, "big") + unique)
        return InvocationRequest(service, handler, key, body, invocation_id=invocation_id)


def make_app(loop: SimulationLoop, chance: Chance, trace: Trace) -> App:
    """The services that `OperationMaker` asks for; their steps draw from `chance`."""
    greeter = Service("Greeter")
    chores = Service("Chores")
    counter = VirtualObject(COUNTER)

    async def work(longest_ms: int) -> int:
        await loop.pause(int(chance.fraction() * longest_ms * MS))
        # Another number in each execution: the answer tells which of them counted.
        return chance.bits(30)

    async def fail_often() -> int:
        await loop.pause(int(chance.fraction() * 5 * MS))
        if chance.happens(0.5):
            trace.add("worker", "a step fails")
            raise RuntimeError("this step fails now and then")
        return chance.bits(30)

    @greeter.handler()
    async def greet(ctx: Context, name: str) -> str:
        return f"Hello {name}"

    @chores.handler()
    async def steps(ctx: Context, name: str) -> list[int]:
        return [
            await ctx.run("first", work, args=(5,)),
            await ctx.run("second", work, args=(10,)),
            await ctx.run("third", work, args=(20,)),
        ]

    @chores.handler()
    async def flaky(ctx: Context, name: str) -> list[int]:
        before = await ctx.run("before", work, args=(5,))
        return [before, await ctx.run("fail often", fail_often)]

    @chores.handler()
    async def slow(ctx: Context, name: str) -> int:
        return await ctx.run("slow", work, args=(300,))

    _add_waiting_chores(chores, work)

    @counter.handler()
    async def add(ctx: ObjectContext, amount: int) -> int:
        count = (await ctx.get("count", type_hint=int) or 0) + amount
        ctx.set("count", count)
        return count

    @counter.handler()
    async def add_slowly(ctx: ObjectContext, amount: int) -> int:
        count = await ctx.get("count", type_hint=int) or 0
        await ctx.run("think", work, args=(20,))
        ctx.set("count", count + amount)
        return count + amount

    return App([greeter, chores, counter])


def _add_waiting_chores(chores: Service, work: Callable[[int], Coroutine[Any, Any, int]]) -> None:
    """Handlers that wait for something else than their own steps."""

    @chores.handler()
    async def nap(ctx: Context, name: str) -> int:
        before = await ctx.run("before", work, args=(5,))
        await asyncio.sleep(0.001 + before % 50 / 1000)  # noqa: TID251 - what is tried here
        return before

    @chores.handler()
    async def ask(ctx: Context, name: str) -> str:
        awakeable, answer = ctx.awakeable(type_hint=int)
        ctx.service_send(reply, awakeable, send_delay=timedelta(milliseconds=7))
        return f"{name} {await answer}"

    @chores.handler()
    async def reply(ctx: Context, awakeable: str) -> None:
        ctx.resolve_awakeable(awakeable, await ctx.run("answer", work, args=(5,)))

    @chores.handler()
    async def delegate(ctx: Context, name: str) -> list[Any]:
        calls: list[Awaitable[Any]] = [
            ctx.service_call(nap, name),
            ctx.service_call(nap, name),
            ctx.service_call(ask, name),
        ]
        return list(await asyncio.gather(*calls))

    @chores.handler()
    async def linger(ctx: Context, name: str) -> str:
        before = await ctx.run("before", work, args=(5,))
        return f"{name} {before} {await ctx.signal(GO, type_hint=str)}"

    @chores.handler()
    async def herd(ctx: Context, name: str) -> list[Any]:
        calls: list[Awaitable[Any]] = [ctx.service_call(linger, name) for _ in range(2)]
        return list(await asyncio.gather(*calls))

    @chores.handler()
    async def listen(ctx: Context, name: str) -> list[int]:
        ctx.service_send(play, ctx.request().id)
        return [await ctx.signal(GO, type_hint=int) for _ in TUNE]

    @chores.handler()
    async def play(ctx: Context, listener: str) -> None:
        for note in TUNE:
            ctx.resolve_signal(listener, GO, note)
            await ctx.sleep(timedelta(milliseconds=30))
