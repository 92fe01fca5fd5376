"""What opens an attempt on a worker: the start, the state and the journal so far."""

from ..tables import keys
from ..tables.invocations import STATUS_RUNNING
from ..tables.journal import decode_chunk
from ..transaction import Transaction
from .attempt import Attempt
from .attempt_frames import journal_segments, start_frames


def start_segments(
    transaction: Transaction, attempt: Attempt, epoch: int, now_ns: int, *, lazy_state: bool
) -> list[tuple[int, bytes]]:
    """(record time in ns, frames) in order, as the store has them now.

    Nothing when the attempt is over in the store: the effect that says so is still under way, in
    the same turn, and this one must not begin.

    Args:
        epoch: the leader's.
        now_ns: the time by which the partition counts sleeps; also for how long ago things were.
        lazy_state: leave the state out, for the handler to ask for it.
    """
    # A waiting attempt has let go of its input; the store has it.
    invocation = transaction.invocation(attempt.invocation_id)
    if (
        invocation is None
        or invocation.status != STATUS_RUNNING
        or invocation.attempt != attempt.attempt
    ):
        return []
    state: dict[bytes, bytes] | None = {}
    if lazy_state:
        state = None
    elif invocation.key is not None:
        object_name = keys.object_suffix(invocation.service, invocation.key)
        state = transaction.object_state(attempt.invocation_id[:8], object_name)
    opening = start_frames(
        attempt.invocation_id, invocation, epoch=epoch, state=state, now_ns=now_ns
    )
    attempt.entries = invocation.entries
    if invocation.rows == 0 and len(invocation.head) == 1:
        # Nearly all first attempts: the input and nothing else.
        chunk = decode_chunk(invocation.head[0])
        return [(chunk.record_time_ns, opening + chunk.frames)]
    segments = journal_segments(transaction.journal(attempt.invocation_id, invocation))
    first_time_ns, first_frames = segments[0]
    segments[0] = (first_time_ns, opening + first_frames)
    return segments
