"""How a leader carries out each effect of apply, under one epoch."""

from collections.abc import Callable
from typing import Any

from . import effects as effect
from .attempt_keeper import AttemptKeeper
from .clients import Clients
from .context import ApplyContext
from .drivers import Drivers
from .shipments import Carrier
from .timers import Timers


class SupersededError(Exception):
    """An announcement of a higher epoch was among what was applied: another node leads."""


def effect_table(
    epoch: int,
    context: ApplyContext,
    clients: Clients,
    keeper: AttemptKeeper,
    drivers: Drivers,
    retries: Timers,
    carrier: Carrier,
) -> dict[type, Callable[[Any], None]]:
    """What to call with an effect, by its type; `LeaderAnnounced` may raise SupersededError.

    Built for each reign: clients are answered for the records of this epoch alone.
    """

    def accepted(item: effect.Accepted) -> None:
        if item.epoch == epoch:
            clients.accepted(item)

    def done(item: effect.Done) -> None:
        if item.epoch == epoch:
            clients.done(item)

    def answer(item: effect.Answer) -> None:
        clients.answered(item)
        drivers.completed(item.invocation)

    def arm_retry(item: effect.ArmRetry) -> None:
        retries.add(item.due_ns, context.record_time_ns, item.invocation_id, item.attempt)

    def arm_timer(item: effect.ArmTimer) -> None:
        drivers.timers.add(item, context.record_time_ns)

    def delivered(item: effect.Delivered) -> None:
        carrier.taken(item.source, context.range.number, item.last, item.gap)

    def leader_announced(item: effect.LeaderAnnounced) -> None:
        if item.epoch > epoch:
            raise SupersededError

    return {
        effect.Accepted: accepted,
        effect.Done: done,
        effect.StateChanged: clients.state_changed,
        effect.DigestMarked: drivers.compare,
        effect.StartAttempt: keeper.start,
        effect.Notify: keeper.notify,
        effect.EndAttempt: keeper.end,
        effect.Answer: answer,
        effect.ArmRetry: arm_retry,
        effect.ArmTimer: arm_timer,
        effect.Ship: drivers.shipments.add,
        effect.Delivered: delivered,
        effect.LeaderAnnounced: leader_announced,
    }
