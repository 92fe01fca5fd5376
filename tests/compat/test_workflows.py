"""Workflows, as apps for the official SDK write them: one run per key, promises, state."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import perdure.sdk as restate
from perdure.sdk import (
    HttpError,
    RestateClient,
    TerminalError,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)

from .running import used

pytestmark = pytest.mark.usefixtures("each_way")

payment = Workflow("payment")


@payment.main()
async def pay(ctx: WorkflowContext, amount: int) -> dict[str, bool]:
    ctx.set("status", "verifying payment")

    def payment_gateway() -> None:
        assert amount > 0

    await ctx.run("payment", payment_gateway)
    ctx.set("status", "waiting for the payment provider to approve")

    match await restate.select(
        result=ctx.promise("verify.payment").value(), timeout=ctx.sleep(timedelta(hours=10))
    ):
        case ["result", "approved"]:
            ctx.set("status", "payment approved")
            return {"success": True}
        case ["result", "declined"]:
            ctx.set("status", "payment declined")
            raise TerminalError(message="Payment declined", status_code=401)
        case _:
            raise TerminalError(message="Payment verification timed out", status_code=410)


@payment.handler()
async def payment_verified(ctx: WorkflowSharedContext, result: str) -> None:
    promise = ctx.promise("verify.payment")
    await promise.resolve(result)


@payment.handler()
async def give_up(ctx: WorkflowSharedContext, reason: str) -> None:
    await ctx.promise("verify.payment").reject(reason, 402)


@payment.handler()
async def verified(ctx: WorkflowSharedContext) -> Any:
    return await ctx.promise("verify.payment").peek()


@payment.handler()
async def status(ctx: WorkflowSharedContext) -> str | None:
    return await ctx.get("status")


def outcome_of(verify: Any, argument: str) -> tuple[Any, ...]:
    """What a run gives when it is verified so, and the status at its end."""

    async def use(client: RestateClient) -> tuple[Any, ...]:
        handle = await client.workflow_send(pay, "order", 100)
        assert handle.invocation_id == await client.lookup(pay, "order")
        assert await client.workflow_call(verified, "order", None) is None
        await client.workflow_call(verify, "order", argument)
        try:
            result: Any = await client.attach(handle.invocation_id)
        except HttpError as failure:
            result = (failure.status_code, failure.message)
        return result, await client.workflow_call(status, "order", None)

    result: tuple[Any, ...] = used(use, payment)
    return result


def test_runs_wait_for_their_promises() -> None:
    """Which another handler resolves or rejects; the state stays to be read."""
    assert outcome_of(payment_verified, "approved") == ({"success": True}, "payment approved")
    assert outcome_of(payment_verified, "declined") == (
        (401, "Payment declined"),
        "payment declined",
    )
    failed, _status = outcome_of(give_up, "no money")
    assert failed == (402, "no money")


def test_a_workflow_runs_once_per_key() -> None:
    """A second run under the key is refused, and a promise has one value."""

    async def use(client: RestateClient) -> list[Any]:
        first = asyncio.ensure_future(client.workflow_call(pay, "k", 1))
        while await client.workflow_call(status, "k", None) is None:
            pass
        await client.workflow_call(payment_verified, "k", "approved")
        outcome = [await first]
        for again in (
            client.workflow_call(pay, "k", 1),
            client.workflow_call(payment_verified, "k", "declined"),
        ):
            with pytest.raises(HttpError) as refused:
                await again
            outcome.append(refused.value.status_code)
        return [*outcome, await client.workflow_call(verified, "k", None)]

    assert used(use, payment) == [{"success": True}, 409, 409, "approved"]
