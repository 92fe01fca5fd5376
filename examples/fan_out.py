"""Fan-out: the parts of a job are calls that run at the same time, started in a plain TaskGroup.

perdure worker examples/fan_out.py --connect 127.0.0.1:5122
perdure call Words/count_all '["a log is a log", "a rose is a rose"]'
"""

import asyncio
from collections import Counter

from perdure.sdk import Context, Service

words = Service("Words")


@words.handler()
async def count(ctx: Context, text: str) -> dict[str, int]:
    """Count the words of one text."""
    return dict(Counter(text.split()))


@words.handler()
async def count_all(ctx: Context, texts: list[str]) -> dict[str, int]:
    """Count the words of many texts, each in an invocation of its own."""

    async def counted(text: str) -> dict[str, int]:
        return await ctx.service_call(count, text)

    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(counted(text)) for text in texts]
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part.result())
    return dict(sorted(total.items()))
