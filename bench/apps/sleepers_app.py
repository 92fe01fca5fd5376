"""The application of bench.sleepers: naps that tell how late they ended, and a plain greeter."""

import json
import os
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

from perdure.sdk import Context, Service

WRITE_SECONDS = 0.5
FILE = Path("naps.json")

greeter = Service("Greeter")
# Whoever waits is asked to suspend at once, so that all are away as soon as they sleep. Only for
# this service: the greeter keeps the defaults.
sleeper = Service("Sleeper", inactivity_timeout=timedelta(0))

ended_by_lateness: Counter[int] = Counter()
"""How many naps ended so many milliseconds after their time."""


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    """Answer at once: the new work beside the sleepers."""
    return f"Hello, {name}!"


@sleeper.handler()
async def nap(ctx: Context, until_ms: int) -> None:
    """Sleep until a time and count how late the handler goes on; only its last attempt does."""
    await ctx.sleep(_until(until_ms))
    ended_by_lateness[int(time.time() * 1000) - until_ms] += 1


@sleeper.handler()
async def doze(ctx: Context, until_ms: int) -> None:
    """The same and not counted: to see how many of them the machine takes per second."""
    await ctx.sleep(_until(until_ms))


def _until(until_ms: int) -> timedelta:
    return timedelta(milliseconds=max(0.0, until_ms - time.time() * 1000))


def _keep_file() -> None:
    """Write the counts whenever there are more, beside the handlers: a nap must not pay for it."""
    written = 0
    while True:
        counts = dict(ended_by_lateness)
        if sum(counts.values()) > written:
            written = sum(counts.values())
            FILE.with_suffix(".new").write_text(json.dumps(counts))
            os.replace(FILE.with_suffix(".new"), FILE)
        time.sleep(WRITE_SECONDS)


threading.Thread(target=_keep_file, daemon=True).start()
