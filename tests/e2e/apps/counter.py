"""The app under load: counters by key, a service without state, a step that takes a while."""

import asyncio
from pathlib import Path

from perdure.sdk import Context, ObjectContext, ObjectSharedContext, Service, VirtualObject

counter = VirtualObject("Counter")
greeter = Service("Greeter")


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    """Add to the counter and give its new value."""
    value = (await ctx.get("value", type_hint=int) or 0) + amount
    ctx.set("value", value)
    return value


@counter.handler()
async def add_in_steps(ctx: ObjectContext, amount: int) -> int:
    """Add what a step gives; more records, so more moments at which a kill can fall."""

    async def decide() -> int:
        return amount

    decided = await ctx.run_typed("decide", decide)
    value = (await ctx.get("value", type_hint=int) or 0) + decided
    ctx.set("value", value)
    return value


@counter.handler(kind="shared")
async def get(ctx: ObjectSharedContext) -> int:
    """Give the counter's value."""
    return await ctx.get("value", type_hint=int) or 0


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    """Greet somebody."""
    return f"Hello {name}"


@greeter.handler()
async def slow(ctx: Context, seconds: float) -> str:
    """Give an answer after a step that waits."""

    async def wait() -> str:
        await asyncio.sleep(seconds)
        return "done"

    return await ctx.run_typed("wait", wait)


@greeter.handler()
async def held(ctx: Context, path: str) -> str:
    """Give an answer after a step that waits until there is a file."""

    go_on = Path(path)

    async def wait() -> str:
        while not await asyncio.to_thread(go_on.exists):
            await asyncio.sleep(0.02)
        return "done"

    return await ctx.run_typed("wait", wait)


@greeter.handler()
async def measure(ctx: Context, text: str) -> int:
    """Tell how long a text is."""
    return len(text)
