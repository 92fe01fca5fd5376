"""PatchState: an object's state is changed from outside, in its turn."""

from ...log.types import Record
from ..context import ApplyContext
from ..lifecycle.lock import change_state
from ..records import PatchState


def apply_patch_state(context: ApplyContext, command: PatchState, record: Record) -> None:
    """Change it now, or have the change wait in the object's inbox."""
    context.done(record, *change_state(context, command))
