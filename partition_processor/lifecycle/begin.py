"""A new invocation's time has come: it starts, or waits for its object."""

from ...core.ids import InvocationId
from ..context import ApplyContext
from ..records import KIND_OBJECT_EXCLUSIVE
from ..tables.invocations import Invocation
from .lock import start_or_wait
from .start import start_attempt


def begin(context: ApplyContext, invocation_id: InvocationId, invocation: Invocation) -> None:
    """Start a scheduled invocation, or have it wait for its object."""
    if invocation.target_kind == KIND_OBJECT_EXCLUSIVE:
        start_or_wait(context, invocation_id, invocation)
    else:
        start_attempt(context, invocation_id, invocation)
