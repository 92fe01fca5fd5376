"""An app whose invocations stay in every status that there is, for those who look into them."""

from datetime import timedelta

from perdure.sdk import (
    Context,
    ObjectContext,
    Service,
    VirtualObject,
    Workflow,
    WorkflowContext,
    app,
)

jobs = Service("Jobs", inactivity_timeout=timedelta(0))
counter = VirtualObject("Counter", inactivity_timeout=timedelta(0))
sign_up = Workflow("SignUp", inactivity_timeout=timedelta(0))
hidden = Service("Hidden", ingress_private=True, journal_retention=timedelta(minutes=90))


def seven() -> int:
    """The result of the step."""
    return 7


@jobs.handler()
async def steps(ctx: Context, amount: int) -> int:
    """Run a step and end."""
    return amount + await ctx.run_typed("seven", seven)


@jobs.handler()
async def nap(ctx: Context) -> None:
    """Sleep for an hour."""
    await ctx.sleep(timedelta(hours=1))


@jobs.handler()
async def outer(ctx: Context) -> None:
    """Wait for a nap."""
    await ctx.service_call(nap, arg=None)


@jobs.handler()
async def fail(ctx: Context) -> None:
    """Fail after a step, to be tried again."""
    await ctx.run_typed("seven", seven)
    raise RuntimeError("the printer is on fire")


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    """Add to the counter and give its new value."""
    value = (await ctx.get("value", type_hint=int) or 0) + amount
    ctx.set("value", value)
    return value


@counter.handler()
async def hold(ctx: ObjectContext) -> str:
    """Wait for an answer with the lock in hand."""
    _, answer = ctx.awakeable(type_hint=str)
    return await answer


@sign_up.main()
async def run(ctx: WorkflowContext) -> str:
    """Wait for the click."""
    return await ctx.promise("clicked", type_hint=str)


@hidden.handler()
async def work(ctx: Context) -> None:
    """Do nothing."""


JOBS = app([jobs, counter, sign_up, hidden])
