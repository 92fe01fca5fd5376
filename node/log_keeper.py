"""LogKeeper: has the logs that are ordered here go on on log-servers that are fit for it.

Who orders a log is the one that changes its chain, so no log has two keepers at work; a node that
has lost the lead and does not know it yet is refused by the chain. A change costs its log a seal
and a few syncs, so it waits until its reason has lasted, few logs change at a time, and each log
that was changed waits longer before the next change.

It also tells log-servers that were away what was trimmed and deleted meanwhile.
"""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import msgspec
import structlog

from ..core.errors import PerdureError
from ..core.ids import LogId
from ..core.tasks import TaskScope
from ..log.chain import Segment
from ..log.upkeep import IN_ORDER, Review, SegmentHealth
from ..log.virtual_log import VirtualLog

ROUND_SECONDS: Final = 1.0
"""How often the logs are looked at, or more often where less patience is asked for."""

BACK_OFF_MAX_SECONDS: Final = 300.0
"""The longest pause between two changes of one log."""

FORGIVEN_AFTER_SECONDS: Final = 600.0
"""A log that was left alone for so long begins with a short pause again."""

SHARE_AT_ONCE: Final = 3
"""One in so many of the logs that are due is changed in one round, and at least one."""

_log = structlog.get_logger("log-keeper")


class Reviewer(Protocol):
    """What judges segments: a `LogReviewer`, or a provider for those of its kind."""

    def review(self, log: LogId, segment: Segment) -> Review:
        """Whether the log is to go on on other log-servers."""
        ...

    def health(self, segment: Segment) -> SegmentHealth | None:
        """How well a segment is kept; None where that is not for this provider to tell."""
        ...

    def chase(self, log: LogId, first: Segment) -> None:
        """Tell log-servers that were away what is gone of a log."""
        ...


class _Care(msgspec.Struct):
    """What is remembered of one log.

    Attributes:
        segment: index of the segment that was looked at.
        since: when its reason was first seen, None while there is none.
        pause: how long the next change waits after the last one, seconds.
        changed_at: when the last change was begun.
        busy: a change is under way.
        told: the hindrance that was last told of.
    """

    segment: int = 0
    since: float | None = None
    pause: float = 0.0
    changed_at: float | None = None
    busy: bool = False
    told: str = ""


class LogKeeper:
    """Looks after the logs that this node orders, from `start` to `stop`.

    Attributes:
        changes: how many times it has had a log go on in a new segment.
    """

    def __init__(
        self,
        reviewer: Reviewer,
        *,
        opened: Callable[[], Iterable[VirtualLog]],
        patience_seconds: float,
        loop: AbstractEventLoop,
        scope: TaskScope,
    ) -> None:
        """Do nothing before `start`.

        Args:
            opened: the logs of this process.
            patience_seconds: how long a reason has to last.
        """
        self._reviewer = reviewer
        self._opened = opened
        self._patience = patience_seconds
        self._loop = loop
        self._scope = scope
        self._care: dict[LogId, _Care] = {}
        self._timer: TimerHandle | None = None
        self.changes = 0

    def start(self) -> None:
        """Begin the rounds."""
        seconds = min(ROUND_SECONDS, self._patience)
        self._timer = self._loop.call_later(seconds, self._round)

    def stop(self) -> None:
        """No more rounds; a change under way goes on for as long as its scope does."""
        if self._timer is not None:
            self._timer.cancel()

    def warnings(self) -> list[str]:
        """What an operator should know of the logs that are ordered here, by reason."""
        found: dict[tuple[str, str], list[int]] = {}
        for log in self._opened():
            if not _is_ordered_here(log):
                continue
            for segment in log.chain.segments:
                health = self._reviewer.health(segment)
                if health is None or health.health == IN_ORDER:
                    continue
                logs = found.setdefault((health.health, str(health)), [])
                if log.log not in logs:
                    logs.append(log.log)
        return [
            f"segments of logs {', '.join(map(str, logs))} are {health}: {why}; {_WAY_OUT[health]}"
            for (health, why), logs in sorted(found.items())
        ]

    def _round(self) -> None:
        self.start()
        for log in self._opened():
            if _is_ordered_here(log):
                self._reviewer.chase(log.log, log.chain.segments[0])
        due = [log for log in self._opened() if self._is_due(log)]
        for log in due[: max(1, len(due) // SHARE_AT_ONCE)]:
            care = self._care[log.log]
            care.busy = True
            care.changed_at = self._loop.time()
            # After a failure it has waited as well as after a change.
            care.pause = min(max(self._patience, 2 * care.pause), BACK_OFF_MAX_SECONDS)
            self._scope.spawn(self._change(log, care), name=f"keep-log-{log.log}")

    def _is_due(self, log: VirtualLog) -> bool:
        """Whether a log is to be changed now."""
        care = self._care.setdefault(log.log, _Care())
        if care.busy:
            return False
        if not _is_ordered_here(log):
            care.since = None
            return False
        segment = log.chain.tail
        if care.segment != segment.index:
            care.segment, care.since = segment.index, None
        review = self._reviewer.review(log.log, segment)
        if review.hindered != care.told:
            care.told = review.hindered
            if review.hindered:
                _log.warning(
                    "log cannot go on on other log-servers",
                    log=log.log,
                    wanted=", ".join(review.reasons),
                    reason=review.hindered,
                )
        if not review.reasons or review.hindered:
            care.since = None
            return False
        now = self._loop.time()
        if care.since is None:
            care.since = now
        if care.changed_at is not None:
            if now >= care.changed_at + FORGIVEN_AFTER_SECONDS:
                care.changed_at, care.pause = None, 0.0
            elif now < care.changed_at + care.pause:
                return False
        return now >= care.since + self._patience

    async def _change(self, log: VirtualLog, care: _Care) -> None:
        segment = log.chain.tail
        try:
            # Things may have changed since the round began.
            review = self._reviewer.review(log.log, segment)
            if review.hindered or not review.reasons or not _is_ordered_here(log):
                return
            new = await log.reconfigure(review.kind)
            self.changes += 1
            _log.info(
                "log goes on on other log-servers",
                log=log.log,
                kind=new.kind,
                segment=new.index,
                tail_lsn=new.base_lsn,
                reason=", ".join(review.reasons),
            )
        except PerdureError as error:
            _log.warning(
                "log does not go on on other log-servers yet",
                log=log.log,
                code=error.code,
                reason=str(error),
            )
        finally:
            care.busy = False
            care.since = None


_WAY_OUT: Final = {
    "under-replicated": "start the log-servers, or take snapshots: old segments go in time then",
    "unavailable": "start the log-servers",
    "incomplete": "bring the disks back as they were: records that were on them alone are lost",
}


def _is_ordered_here(log: VirtualLog) -> bool:
    """Whether this process orders the log, its last segment being open as far as is known."""
    return log.open_segment == log.chain.tail.index and log.accepting
