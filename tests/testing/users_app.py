"""What a user might have written: handlers that sleep for days, ask, undo and wait for others."""

import asyncio
from datetime import timedelta

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
)

DAY = timedelta(days=1)

mailbox: list[str] = []
"""Stands for the world outside."""

counter = VirtualObject("Counter")
account = VirtualObject("Account")
shop = Service("Shop")
sign_up = Workflow("SignUp")


def send_mail(text: str) -> None:
    """A step with an effect outside, in a thread."""
    mailbox.append(text)


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    value = (await ctx.get("value", type_hint=int) or 0) + amount
    ctx.set("value", value)
    return value


@counter.handler(kind="shared")
async def read(ctx: ObjectSharedContext) -> int:
    return await ctx.get("value", type_hint=int) or 0


@account.handler()
async def withdraw(ctx: ObjectContext, amount: int) -> None:
    balance = await ctx.get("balance", type_hint=int) or 0
    if balance < amount:
        raise TerminalError("too little money", 409)
    ctx.set("balance", balance - amount)


@account.handler()
async def deposit(ctx: ObjectContext, amount: int) -> None:
    if ctx.key() == "closed":
        raise TerminalError("the account is closed", 409)
    ctx.set("balance", (await ctx.get("balance", type_hint=int) or 0) + amount)


@shop.handler()
async def transfer(ctx: Context, names: list[str]) -> str:
    """A saga: undone by hand when its second half fails."""
    source, target = names
    await ctx.object_call(withdraw, source, 10)
    try:
        await ctx.object_call(deposit, target, 10)
    except TerminalError:
        await ctx.object_call(deposit, source, 10)
        return "undone"
    return "done"


@shop.handler()
async def remind(ctx: Context, days: int) -> str:
    """Sleeps with plain asyncio, and mails in a thread."""
    await asyncio.sleep(days * 86400)
    await ctx.run_typed("mail", send_mail, text=f"after {days} days")
    return "reminded"


@shop.handler()
async def approve(ctx: Context) -> str:
    """Waits for a person for a week."""
    name, answer = ctx.awakeable(type_hint=str)
    await ctx.run_typed("ask", send_mail, text=name)
    try:
        async with asyncio.timeout(7 * 86400):
            return await answer
    except TimeoutError:
        return "nobody answered"


@shop.handler()
async def fan_out(ctx: Context, count: int) -> list[int]:
    """Calls that run at the same time."""
    async with asyncio.TaskGroup() as group:
        parts = [
            group.create_task(_added(ctx, f"part-{number}", number)) for number in range(count)
        ]
    return [part.result() for part in parts]


async def _added(ctx: Context, key: str, amount: int) -> int:
    return await ctx.object_call(add, key, amount)


@shop.handler()
async def poll(ctx: Context, rounds: int) -> int:
    """Looks once a day, in a step that is a coroutine."""

    async def look() -> int:
        await asyncio.sleep(5)
        return 1

    seen = 0
    for _ in range(rounds):
        seen += await ctx.run_typed("look", look)
        await ctx.sleep(DAY)
    return seen


@shop.handler()
def blocking(ctx: Context, days: int) -> str:
    """A `def`: the same in a thread."""
    ctx.sleep(timedelta(days=days))
    ctx.run_typed("mail", send_mail, text="blocking")
    return "slept"


@sign_up.main()
async def run(ctx: WorkflowContext, address: str) -> str:
    await ctx.run_typed("mail", send_mail, text=address)
    clicked = await ctx.promise("clicked", type_hint=str)
    await ctx.sleep(30 * DAY)
    ctx.set("status", "member")
    return clicked


@sign_up.handler()
async def click(ctx: WorkflowSharedContext, secret: str) -> None:
    await ctx.promise("clicked", type_hint=str).resolve(secret)


services = [counter, account, shop, sign_up]
