"""A reminder: a handler that sleeps for days, in no process's memory and over any restart.

perdure worker examples/reminder.py --connect 127.0.0.1:5122
curl -X POST 127.0.0.1:8080/Reminders/remind/send --json '{"text": "water the plants", "days": 3}'
"""

import asyncio
from dataclasses import dataclass

from perdure.sdk import Context, Service

reminders = Service("Reminders")

SECONDS_PER_DAY = 24 * 60 * 60


@dataclass
class Reminder:
    """What to say, and in how many days."""

    text: str
    days: float = 1


def say(text: str) -> str:
    """What cannot be undone, such as sending a mail."""
    print(f"Do not forget: {text}")
    return text


@reminders.handler()
async def remind(ctx: Context, reminder: Reminder) -> str:
    """Wait and say it, once."""
    await asyncio.sleep(reminder.days * SECONDS_PER_DAY)
    return await ctx.run_typed("say", say, text=reminder.text)
