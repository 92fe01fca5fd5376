"""The app of the cluster's tests: objects that note each call that ran, and what calls them."""

from datetime import timedelta
from typing import Final

from perdure.sdk import (
    Context,
    ObjectContext,
    Service,
    VirtualObject,
    Workflow,
    WorkflowContext,
    app,
)

ledger = VirtualObject("Ledger")
relay = Service("Relay")
trip = Workflow("Trip")


@ledger.handler()
async def add(ctx: ObjectContext, entry: str) -> int:
    entries = await ctx.get("entries", type_hint=list) or []
    entries.append(entry)
    ctx.set("entries", entries)
    return len(entries)


@ledger.handler(idempotency_retention=timedelta(seconds=50))
async def briefly(ctx: ObjectContext, entry: str) -> int:
    return await add(ctx, entry)


@ledger.handler()
async def entries(ctx: ObjectContext) -> list[str]:
    return await ctx.get("entries", type_hint=list) or []


@ledger.handler()
async def collect(ctx: ObjectContext, count: int) -> list[str]:
    return [await ctx.signal("word", type_hint=str) for _ in range(count)]


@ledger.handler()
async def pinned(ctx: ObjectContext, count: int) -> list[str]:
    """As `collect`, with an entry that it stays with its code for."""
    await ctx.run_typed("begin", lambda: count)
    return await collect(ctx, count)


naps_held: Final[set[str]] = set()


@ledger.handler()
async def nap(ctx: ObjectContext, name: str) -> None:
    """Sleep for a second, in attempts that begin while naps of the name are held after a word."""
    if name in naps_held:
        await ctx.signal("word", type_hint=str)
    await ctx.sleep(timedelta(seconds=1))


@relay.handler()
async def pass_on(ctx: Context, order: list[str]) -> int:
    """Have an entry noted in a ledger, wherever it is."""
    key, entry = order
    return await ctx.object_call(add, key, entry)


@relay.handler()
async def spread(ctx: Context, order: list[str]) -> str:
    """Have an entry noted in many ledgers without waiting."""
    entry, *keys = order
    for key in keys:
        ctx.object_send(add, key, entry)
    return entry


@trip.main()
async def run(ctx: WorkflowContext, entry: str) -> str:
    await ctx.object_call(add, "trips", entry)
    return entry


APP: Final = app([ledger, relay, trip])
