"""``perdure invocations pause``: keep invocations from going on."""

from typing import Final

from .actions import BULK_HELP, Action, bulk_command

HELP: Final = f"""Keep invocations from going on until they are resumed.

What runs loses its attempt and keeps its journal. A suspended one has no attempt and stays as it
is: it goes on when what it waits for comes.

  perdure invocations pause inv_1…

  perdure invocations pause --service Mailer --status backing-off
{BULK_HELP}"""

_STATUSES: Final = ("ready", "running", "backing-off")

pause = bulk_command(Action("pause", _STATUSES, {}))
