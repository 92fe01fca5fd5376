"""A saga: money moves between two accounts, and what was done is undone when the rest fails.

perdure worker examples/money_transfer.py --connect 127.0.0.1:5122
perdure call Account/ann/deposit 100
perdure call Transfers/transfer '{"source": "ann", "target": "bob", "amount": 30}'
perdure call Account/bob/close
perdure call Transfers/transfer '{"source": "ann", "target": "bob", "amount": 30}'
perdure call Account/ann/balance
"""

from dataclasses import dataclass

from perdure.sdk import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    Service,
    TerminalError,
    VirtualObject,
)

account = VirtualObject("Account")
transfers = Service("Transfers")


@dataclass
class Transfer:
    """What is to be moved."""

    source: str
    target: str
    amount: int


@account.handler()
async def deposit(ctx: ObjectContext, amount: int) -> int:
    """Add to the balance and give it, unless the account is closed."""
    if await ctx.get("closed", type_hint=bool):
        raise TerminalError(f"the account of {ctx.key()} is closed", 409)
    total = (await ctx.get("balance", type_hint=int) or 0) + amount
    ctx.set("balance", total)
    return total


@account.handler()
async def withdraw(ctx: ObjectContext, amount: int) -> int:
    """Take from the balance and give what is left, unless there is too little."""
    total = await ctx.get("balance", type_hint=int) or 0
    if total < amount:
        raise TerminalError(f"{ctx.key()} has {total}, which is less than {amount}", 409)
    ctx.set("balance", total - amount)
    return total - amount


@account.handler()
async def close(ctx: ObjectContext) -> None:
    """Take no more deposits."""
    ctx.set("closed", True)


@account.handler(kind="shared")
async def balance(ctx: ObjectSharedContext) -> int:
    """Give the balance."""
    return await ctx.get("balance", type_hint=int) or 0


@transfers.handler()
async def transfer(ctx: Context, order: Transfer) -> str:
    """Move money; it is in one of the two accounts at the end, whatever fails on the way."""
    await ctx.object_call(withdraw, order.source, order.amount)
    try:
        await ctx.object_call(deposit, order.target, order.amount)
    except TerminalError:
        await ctx.object_call(deposit, order.source, order.amount)
        raise
    return f"{order.source} paid {order.target} {order.amount}"
