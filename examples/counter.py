"""A virtual object: one counter per key, with one writer at a time.

perdure worker examples/counter.py --connect 127.0.0.1:5122
perdure call Counter/ann/add 5
perdure call Counter/ann/get
"""

from perdure.sdk import ObjectContext, ObjectSharedContext, VirtualObject

counter = VirtualObject("Counter")


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    """Add to the counter and give its new value."""
    value = (await ctx.get("value", type_hint=int) or 0) + amount
    ctx.set("value", value)
    return value


@counter.handler(kind="shared")
async def get(ctx: ObjectSharedContext) -> int:
    """Give the counter's value."""
    return await ctx.get("value", type_hint=int) or 0
