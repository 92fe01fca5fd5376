"""``perdure invocations cancel``: ask invocations to cancel themselves."""

from typing import Final

from .actions import BULK_HELP, NOT_COMPLETED, Action, bulk_command

HELP: Final = f"""Ask invocations to cancel themselves.

Where a handler waits, it gets a cancellation, which it may handle, and so do the invocations that
it called and waits for. One that has not started ends at once. A paused one goes on for it.

  perdure invocations cancel inv_1…

  perdure invocations cancel --service Counter --key ada --dry-run
{BULK_HELP}"""

cancel = bulk_command(Action("cancel", NOT_COMPLETED, {}))
