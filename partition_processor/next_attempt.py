"""When an invocation is tried again after an attempt that ended without an answer."""

import msgspec

from ..core.random import Random
from ..core.retry import RetryPolicy
from .handling import Handling
from .invoker.attempt import WorkerLoss
from .invoker.attempt_frames import AttemptError, Behavior
from .tables.invocations import Invocation


class NextAttempt(msgspec.Struct, frozen=True, gc=False):
    """What follows a failed attempt.

    Attributes:
        delay_ns: wait before the next one; None when none follows by itself.
        counts: whether the policy counts the failure.
        pause: with no delay, whether the invocation waits for somebody instead of failing.
    """

    delay_ns: int | None
    counts: bool
    pause: bool = False


def next_attempt(
    invocation: Invocation,
    error: AttemptError,
    lost: WorkerLoss | None,
    handling: Handling,
    random: Random,
) -> NextAttempt:
    """What follows an attempt that failed with `error`.

    Args:
        lost: how the attempt lost its worker, None when it did not.
    """
    counts = error.delay_ns is None and lost is not WorkerLoss.WITH_OTHERS
    if error.behavior is not Behavior.RETRY:
        return NextAttempt(None, counts, error.behavior is Behavior.PAUSE)
    if error.delay_ns is not None:
        return NextAttempt(error.delay_ns, counts)
    policy = handling.retry
    if lost is None:
        delay_ns = policy.delay_ns(invocation.failed_attempts + 1, random)
    else:
        delay_ns = _after_loss(invocation, policy, random, counts=counts)
    return NextAttempt(delay_ns, counts, delay_ns is None and handling.pause_when_exhausted)


def _after_loss(
    invocation: Invocation, policy: RetryPolicy, random: Random, *, counts: bool
) -> int | None:
    """A worker that went away says little about the code: the next attempt may start at once.

    But not for ever, as it may be this very invocation that brings workers down.
    """
    if counts and policy.delay_ns(invocation.failed_attempts + 1, random) is None:
        return None
    if invocation.failures_since_entry == 0:
        return 0
    endless = msgspec.structs.replace(policy, attempts_max=None)
    return endless.delay_ns(invocation.failures_since_entry, random)
