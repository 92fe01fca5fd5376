"""The same application for the peer, written with its own SDK and served by hypercorn."""

import restate
from restate import Context, ObjectContext, Service, VirtualObject

greeter = Service("Greeter")
counter = VirtualObject("Counter")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    """Answer at once: what is left is the cost of a durable call itself."""
    return f"Hello, {name}!"


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    """Read and write one value under the key's lock."""
    count = (await ctx.get("count", type_hint=int) or 0) + amount
    ctx.set("count", count)
    return count


app = restate.app(services=[greeter, counter])
