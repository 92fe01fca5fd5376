"""Accounts and transfers between them: sagas that call objects of other partitions."""

import asyncio

import msgspec

from perdure.sdk import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    Service,
    TerminalError,
    VirtualObject,
)

account = VirtualObject("Account")
bank = Service("Bank")
greeter = Service("Greeter")


class Transfer(msgspec.Struct):
    """Money from one account to another; every fifth one is refused by the books."""

    number: int
    source: str
    target: str
    amount: int


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    """Greet somebody."""
    return f"Hello {name}"


@account.handler()
async def change(ctx: ObjectContext, amount: int) -> int:
    """Add to the balance, which must not fall below zero."""
    balance = (await ctx.get("balance", type_hint=int) or 0) + amount
    if balance < 0:
        raise TerminalError("not enough money", status_code=409)
    ctx.set("balance", balance)
    return balance


@account.handler(kind="shared")
async def balance(ctx: ObjectSharedContext) -> int:
    """Give the balance."""
    return await ctx.get("balance", type_hint=int) or 0


@bank.handler()
async def move(ctx: Context, transfer: Transfer) -> str:
    """Take the money, book it, give it; undo what was done when that cannot be."""

    async def book() -> str:
        if transfer.number % 5 == 0:
            raise TerminalError("not in the books", status_code=422)
        return f"entry {transfer.number}"

    try:
        await ctx.object_call(change, key=transfer.source, arg=-transfer.amount)
    except TerminalError:
        return "refused"
    try:
        await ctx.run_typed("book", book)
        await asyncio.sleep(0.05)
        await ctx.object_call(change, key=transfer.target, arg=transfer.amount)
    except TerminalError:
        await ctx.object_call(change, key=transfer.source, arg=transfer.amount)
        return "undone"
    return "done"
