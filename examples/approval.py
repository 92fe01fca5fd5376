"""An approval: a handler waits for somebody outside, who answers by an id, or for the time to pass.

perdure worker examples/approval.py --connect 127.0.0.1:5122
curl -X POST 127.0.0.1:8080/Article/first/publish/send
perdure call Article/first/awaited                     # the id that the editor was given
curl -X POST 127.0.0.1:8080/restate/awakeables/ID/resolve --json true
perdure call Article/first/status
"""

import asyncio

from perdure.sdk import ObjectContext, ObjectSharedContext, VirtualObject

article = VirtualObject("Article")

SECONDS_PER_WEEK = 7 * 24 * 60 * 60


def ask_editor(key: str, approval: str) -> None:
    """Give the id to whoever is to answer, such as by mail."""
    print(f"May {key} be published? Answer to {approval}")


@article.handler()
async def publish(ctx: ObjectContext) -> str:
    """Ask for an approval and wait for a week; give what became of the article."""
    approval, answer = ctx.awakeable(type_hint=bool)
    ctx.set("awaited", approval)
    await ctx.run_typed("ask the editor", ask_editor, key=ctx.key(), approval=approval)
    try:
        async with asyncio.timeout(SECONDS_PER_WEEK):
            status = "published" if await answer else "declined"
    except TimeoutError:
        status = "forgotten"
    ctx.set("status", status)
    return status


@article.handler(kind="shared")
async def awaited(ctx: ObjectSharedContext) -> str | None:
    """Give the id that an answer goes to."""
    return await ctx.get("awaited", type_hint=str)


@article.handler(kind="shared")
async def status(ctx: ObjectSharedContext) -> str:
    """Give what has become of the article so far."""
    return await ctx.get("status", type_hint=str) or "waiting"
