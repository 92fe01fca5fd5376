"""When an invocation is tried again after an attempt that ended without an answer."""

import msgspec

from ..core.random import Random
from ..core.retry import RetryPolicy
from .invoker.attempt import WorkerLoss
from .invoker.attempt_frames import AttemptError
from .tables.invocations import Invocation


def next_attempt(
    invocation: Invocation,
    error: AttemptError,
    lost: WorkerLoss | None,
    policy: RetryPolicy,
    random: Random,
) -> tuple[int | None, bool]:
    """The wait in ns before the next attempt, None to give up; and whether the policy counts it.

    Args:
        lost: how the attempt lost its worker, None when it did not.
    """
    counts = error.delay_ns is None and lost is not WorkerLoss.WITH_OTHERS
    if error.give_up:
        return None, counts
    if error.delay_ns is not None:
        return error.delay_ns, counts
    if lost is not None:
        return _after_loss(invocation, policy, random, counts=counts), counts
    return policy.delay_ns(invocation.failed_attempts + 1, random), counts


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
