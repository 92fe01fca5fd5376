"""A workflow: a sign-up runs once per user and waits for the link in the mail to be clicked.

perdure worker examples/sign_up.py --connect 127.0.0.1:5122
curl -X POST 127.0.0.1:8080/SignUp/ann/run/send --json '"ann@example.com"'
perdure call SignUp/ann/status
perdure call SignUp/ann/click '"SECRET"'               # the one that the worker printed
curl 127.0.0.1:8080/restate/workflow/SignUp/ann/attach
"""

from perdure.sdk import Workflow, WorkflowContext, WorkflowSharedContext

sign_up = Workflow("SignUp")


def send_mail(address: str, secret: str) -> None:
    """Send the link, which holds the secret."""
    print(f"Mail to {address}: click on https://example.com/click?secret={secret}")


@sign_up.main()
async def run(ctx: WorkflowContext, address: str) -> bool:
    """Send the mail, wait for the click, and tell whether it came from the mail."""
    secret = str(ctx.uuid())
    ctx.set("status", "waiting for the click")
    await ctx.run_typed("send the mail", send_mail, address=address, secret=secret)
    clicked = await ctx.promise("clicked", type_hint=str)
    ctx.set("status", "signed up" if clicked == secret else "refused")
    return clicked == secret


@sign_up.handler()
async def click(ctx: WorkflowSharedContext, secret: str) -> None:
    """Tell the run that somebody has clicked."""
    await ctx.promise("clicked", type_hint=str).resolve(secret)


@sign_up.handler()
async def status(ctx: WorkflowSharedContext) -> str:
    """Give how far the run has come."""
    return await ctx.get("status", type_hint=str) or "unknown"
