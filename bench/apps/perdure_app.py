"""The measured application for Perdure: a plain greeter and a counter with state per key."""

from perdure.sdk import Context, ObjectContext, Service, VirtualObject

greeter = Service("Greeter")
counter = VirtualObject("Counter")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    """Answer at once: what is left is the cost of a durable call itself."""
    return f"Hello, {name}!"


@greeter.handler()
async def greet3(ctx: Context, name: str) -> str:
    """The same greeting in three steps, each recorded before the next one begins."""
    hello = await ctx.run_typed("hello", say, text="Hello")
    person = await ctx.run_typed("name", say, text=name)
    mark = await ctx.run_typed("mark", say, text="!")
    return f"{hello}, {person}{mark}"


async def say(text: str) -> str:
    """A step with nothing to do: what is left is the cost of a step itself."""
    return text


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    """Read and write one value under the key's lock."""
    count = (await ctx.get("count", type_hint=int) or 0) + amount
    ctx.set("count", count)
    return count
