"""``perdure invocations kill``: end invocations at once."""

from typing import Final

from .actions import BULK_HELP, NOT_COMPLETED, Action, bulk_command

HELP: Final = f"""End invocations at once, with those that they called; no handler has a say.

What a handler would clean up stays as it is: cancel is the better choice where code can still run.

  perdure invocations kill inv_1…

  perdure invocations kill --service Mailer --status backing-off --yes
{BULK_HELP}"""

kill = bulk_command(
    Action("kill", NOT_COMPLETED, {}, "What they called is killed, too; no handler cleans up.")
)
