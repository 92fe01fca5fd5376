"""What each partition is on this node, and how it becomes what it is placed as meanwhile.

One supervisor task per partition that is on its way or follows; none for one that leads, stopped
or is absent. It takes one step at a time towards the last placement: a step that a newer placement
has overtaken is cancelled and waited for before the next one begins, so no two are under way.

A claim in the metadata store decides who may lead. Whoever claims an epoch, claims it before it
seals anything; so a leader that finds its segment sealed need only read the claim to know whether
somebody with a higher one did it, and then never opens the log again.
"""

import asyncio
from asyncio import AbstractEventLoop, Task
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Literal, Protocol, TypeAlias

import msgspec
import structlog

from ..core.clock import Clock
from ..core.errors import PerdureError, StorageCorruptError
from ..core.ids import LogId
from ..core.pauses import next_turn, pause
from ..core.random import Random
from ..core.retry import RetryPolicy
from ..core.tasks import TaskScope
from ..log.errors import LogClosedError, NotSequencerError, StaleEpochError
from ..log.logs import Logs
from ..log.virtual_log import VirtualLog
from ..metadata.api import MetadataStore
from .errors import AheadOfLogError
from .following import LostTrackError, catch_up, follow
from .leadership import LeaderClaim, claim_leadership, read_claim
from .processor import PartitionProcessor
from .same_time import trim_point_for
from .skips import SkipMissedError

_log = structlog.get_logger("partitions")

Placement: TypeAlias = Literal["absent", "follower", "leader"]

RETRY: Final = RetryPolicy(50_000_000, interval_max_ns=1_000_000_000, attempts_max=None)
"""Between tries of whatever fails for reasons that pass."""

PARKED_CHECK_SECONDS: Final = 1.0
"""How often it is looked whether a parked partition is to go on without the record it stands at."""

LEAD_CHECK_SECONDS: Final = 1.0
"""How often a leader looks whether another node has sealed its segment: an idle one would not see.

Not for safety, which is the log's, but so that its workers are free again and it shows what it is.
"""


class Host(Protocol):
    """What a change of roles needs of the partitions' manager."""

    processors: list[PartitionProcessor]

    @property
    def restores(self) -> bool:
        """Whether `prepare` can tell what is behind its log, and restores or stops it."""
        ...

    def finish_turn(self) -> None:
        """Write what was applied, then carry out its effects."""
        ...

    def read_anew(self, partition: int) -> PartitionProcessor:
        """Put a processor in the place of one that is idle, which begins where the store is."""
        ...

    async def prepare(self, processor: PartitionProcessor, log: VirtualLog) -> None:
        """Restore the partition from a snapshot if need be; stops it where nothing helps."""
        ...

    async def shorten(self, log: VirtualLog, applied_lsn: int) -> None:
        """Let old segments go before one is added."""
        ...


class _Seat(msgspec.Struct, eq=False):
    """One partition: what it is to be, and the work under way for that.

    Attributes:
        epoch: claimed and not announced yet; 0 for none.
    """

    partition: int
    wanted: Placement
    supervisor: Task[None] | None = None
    step: Task[None] | None = None
    epoch: int = 0


class RoleChanges:
    """Moves the partitions of one node between absent, follower and leader."""

    def __init__(
        self,
        host: Host,
        *,
        partition_count: int,
        node: str,
        metadata: MetadataStore,
        loop: AbstractEventLoop,
        clock: Clock,
        random: Random,
        scope: TaskScope,
    ) -> None:
        """Start with every partition absent; nothing moves before `logs` is set."""
        self._host = host
        self._node = node
        self._metadata = metadata
        self._loop = loop
        self._clock = clock
        self._random = random
        self._scope = scope
        self._seats = [_Seat(number, "absent") for number in range(partition_count)]
        self._watching = False
        self._watching_parked = False
        self.logs: Logs | None = None

    # Placement -----------------------------------------------------------------------------------

    def apply(self, placement: Mapping[int, Placement]) -> None:
        """Have these partitions become what the placement says; see `PartitionManager`."""
        for partition, wanted in placement.items():
            assert 0 <= partition < len(self._seats), f"there is no partition {partition}"
            seat = self._seats[partition]
            if seat.wanted != wanted:
                # A new order takes an epoch of its own.
                seat.wanted, seat.epoch = wanted, 0
                self._set_out(seat, "it is placed elsewhere")

    def wants_all_to_lead(self) -> None:
        """This node has been started as the leader of everything."""
        for seat in self._seats:
            seat.wanted = "leader"

    def superseded(self, processor: PartitionProcessor) -> None:
        """Another node has claimed the lead, or announced it: follow it from now on.

        The next placement may ask for the lead again.
        """
        seat = self._seats[processor.partition]
        seat.wanted = "follower"
        seat.epoch = 0
        self._set_out(seat, "another node has taken the lead")

    def lost_records(self, processor: PartitionProcessor) -> None:
        """Records that were numbered are gone: lead anew, under another epoch."""
        processor.step_down("records on their way to its log were lost")
        self._set_out(self._seats[processor.partition], "")

    def _set_out(self, seat: _Seat, reason: str) -> None:
        """Begin to move, from whatever is under way."""
        processor = self._host.processors[seat.partition]
        if seat.wanted != "leader" and processor.role in ("candidate", "leader"):
            # In this very turn: whoever hands over acknowledges nothing more.
            processor.step_down(reason)
        if seat.step is not None:
            seat.step.cancel()
        if seat.supervisor is None and not self._settled(seat):
            name = f"partition-{seat.partition}"
            seat.supervisor = self._scope.spawn(self._supervise(seat), name=name)

    def _settled(self, seat: _Seat) -> bool:
        role = self._host.processors[seat.partition].role
        if seat.wanted == "absent":
            return role == "absent"
        if role == "stopped":
            return True
        return seat.wanted == "leader" and role in ("candidate", "leader")

    async def _supervise(self, seat: _Seat) -> None:
        try:
            while not self._settled(seat):
                name = f"partition-{seat.partition}-{seat.wanted}"
                step = seat.step = self._scope.spawn(self._step(seat), name=name)
                await asyncio.wait([step])
                seat.step = None
                if not step.cancelled() and step.exception() is not None:
                    return  # The scope tells of it: a bug, and the node stops.
        finally:
            seat.supervisor = seat.step = None

    async def _step(self, seat: _Seat) -> None:
        """One step towards what is wanted; following is one without an end."""
        processor = self._host.processors[seat.partition]
        if processor.role == "replaying":
            # A step towards the lead was overtaken, or failed.
            processor.step_down("it has not begun to lead")
        if seat.wanted == "absent":
            self._leave(seat, processor)
            return
        failures = anew = 0
        while True:
            try:
                if seat.wanted == "leader":
                    await self._lead(seat)
                else:
                    await self._follow(seat)
                return
            except LostTrackError as error:
                if not self._begin_anew(seat, error.reason, behind=error.trim_point > 0):
                    return
                anew += 1
                await self._pause(anew)
            except (StaleEpochError, NotSequencerError):
                seat.wanted, seat.epoch = "follower", 0
                self._host.processors[seat.partition].step_down("another node has taken the lead")
                return
            except PerdureError as error:
                processor = self._host.processors[seat.partition]
                processor.step_down("it has not begun to lead")
                if type(error) is StorageCorruptError:
                    # Store, log and metadata are not of one time; or the log was trimmed meanwhile.
                    if not self._begin_anew(seat, error, behind=_is_behind(processor)):
                        return
                    anew += 1
                    await self._pause(anew)
                    continue
                if processor.role == "stopped":
                    return
                failures += 1
                self._report(seat, error, failures)
                await self._pause(failures)

    def _leave(self, seat: _Seat, processor: PartitionProcessor) -> None:
        seat.epoch = 0
        if processor.log is not None:
            processor.log.resign()
        self._host.finish_turn()
        # The rows stay, and with them the place in the log. One that was stopped begins anew, too.
        self._host.read_anew(seat.partition)

    # Following -----------------------------------------------------------------------------------

    async def _open(self, partition: int) -> VirtualLog:
        assert self.logs is not None, "no placement before the start"
        return await self.logs.open(LogId(partition), create=True)

    async def _begin(self, processor: PartitionProcessor, log: VirtualLog) -> None:
        """Have a partition begin where the log goes on, knowing what it is to go on without."""
        await self._host.prepare(processor, log)
        if processor.role != "stopped":
            self.know_skips(processor, log, await read_claim(self._metadata, processor.partition))

    @staticmethod
    def know_skips(
        processor: PartitionProcessor, log: VirtualLog, claim: LeaderClaim | None
    ) -> bool:
        """Tell a partition what to skip; False when it stops, for its rows are of another past."""
        try:
            processor.know_skips(() if claim is None else claim.skips, log)
        except (SkipMissedError, AheadOfLogError) as error:
            processor.lose(error)
            return False
        return True

    async def _join(self, seat: _Seat) -> tuple[PartitionProcessor, VirtualLog] | None:
        """Have the partition follow its log; None when it has stopped.

        Then nothing leads to the log's end, or the node stops.
        """
        log = await self._open(seat.partition)
        processor = self._host.processors[seat.partition]
        if processor.role == "absent":
            await self._begin(processor, log)
        if processor.role == "stopped":
            return None
        processor.follow(log)
        return processor, log

    async def _follow(self, seat: _Seat) -> None:
        joined = await self._join(seat)
        if joined is None:
            return
        processor, log = joined
        await follow(
            processor,
            log,
            loop=self._loop,
            clock=self._clock,
            random=self._random,
            retry=RETRY,
            finish_turn=self._host.finish_turn,
        )

    def _begin_anew(self, seat: _Seat, reason: PerdureError, *, behind: bool) -> bool:
        """The store cannot go on with this log: read it anew and have it restored, or stop it."""
        processor = self._host.processors[seat.partition]
        processor.step_down("it has not begun to lead")
        if not behind or not self._host.restores:
            processor.lose(reason)
            return False
        _log.warning(
            "partition is behind what its log still has: looking for a snapshot",
            partition=seat.partition,
            code=reason.code,
            reason=str(reason),
        )
        self._host.finish_turn()
        # It is absent now, so the next try prepares it first.
        self._host.read_anew(seat.partition)
        return True

    # Leading -------------------------------------------------------------------------------------

    async def _lead(self, seat: _Seat) -> None:
        """Claim, extend the chain, apply through the old tail and announce.

        The epoch stays over tries: while it is the last one claimed nobody else is in the way, and
        when it is not, a try must not depose whoever has a higher one.
        """
        joined = await self._join(seat)
        if joined is None:
            return
        processor, log = joined
        # While somebody else still leads: what is read before the seal delays nobody.
        with suppress(PerdureError):  # Reading may need the very seal that follows.
            await catch_up(processor, log, finish_turn=self._host.finish_turn, loop=self._loop)
        if processor.role == "stopped":
            return
        if seat.epoch == 0:
            claim = await claim_leadership(self._metadata, processor.partition, self._node)
            seat.epoch = claim.epoch
            if not self.know_skips(processor, log, claim):
                return
        await self.take_lead(processor, log, seat.epoch)
        seat.epoch = 0

    async def take_lead(self, processor: PartitionProcessor, log: VirtualLog, epoch: int) -> None:
        """Extend the chain under an epoch that was claimed, replay, and announce.

        The partition leads once its announcement comes back. Raises what logs, metadata and stores
        raise.
        """
        await self._host.shorten(log, processor.written_lsn)
        await log.lead(epoch)
        await processor.open(log, epoch)
        while not await processor.replay_some():
            self._host.finish_turn()
            await next_turn(self._loop)
        self._host.finish_turn()
        if processor.role != "stopped":
            processor.announce()
            self._watch()

    def log_sealed(self, processor: PartitionProcessor) -> None:
        """Somebody has sealed the segment that the partition's leader appends to."""
        name = f"recover-log-{processor.partition}"
        self._scope.spawn(self._recover(processor, processor.epoch), name=name)

    async def _recover(self, processor: PartitionProcessor, epoch: int) -> None:
        """Go on in a new segment, unless a higher claim is behind it; a log that cannot, stops."""
        log = processor.log
        failures = 0
        while self._reigns(processor, epoch):
            assert log is not None
            try:
                claim = await read_claim(self._metadata, processor.partition)
                if claim is None or claim.epoch <= epoch:
                    await log.recover()
                elif self._reigns(processor, epoch):
                    self.superseded(processor)
                return
            except LogClosedError:
                return  # The node stops already.
            except NotSequencerError:
                if self._reigns(processor, epoch):
                    self.superseded(processor)
                return
            except PerdureError as error:
                if not error.retryable:
                    processor.lose(error)
                    return
                failures += 1
                await self._pause(failures)

    @staticmethod
    def _reigns(processor: PartitionProcessor, epoch: int) -> bool:
        return processor.role in ("candidate", "leader") and processor.epoch == epoch

    def _watch(self) -> None:
        # Also where the log is one process's own: its next segment may be another.
        if self.logs is not None and self.logs.shared and not self._watching:
            self._watching = True
            self._scope.spawn(self._watch_leads(), name="watch-leads")

    async def _watch_leads(self) -> None:
        """As long as anything is led, look whether others have sealed what they can."""
        try:
            while True:
                await pause(self._loop, LEAD_CHECK_SECONDS)
                led = [
                    processor
                    for processor in self._host.processors
                    if processor.role in ("candidate", "leader") and processor.log is not None
                ]
                if not led:
                    return
                for processor in led:
                    if processor.log is not None and processor.log.shared:
                        await self._look_at(processor)
        finally:
            self._watching = False

    async def _look_at(self, processor: PartitionProcessor) -> None:
        log, epoch = processor.log, processor.epoch
        assert log is not None
        segment = log.chain.tail
        try:
            deposed = segment.index != log.open_segment or await log.is_sealed(segment)
        except PerdureError:
            return  # The next look tries again.
        # Where another segment is the last one by now, the chain was changed from here.
        if deposed and log.chain.tail == segment and not log.sealed:
            await self._recover(processor, epoch)

    # Parked --------------------------------------------------------------------------------------

    def parked(self) -> None:
        """A record cannot be applied: look from now on whether somebody decides to skip it."""
        if not self._watching_parked:
            self._watching_parked = True
            self._scope.spawn(self._watch_parked(), name="watch-parked")

    async def _watch_parked(self) -> None:
        try:
            while parked := [item for item in self._host.processors if item.parked is not None]:
                await pause(self._loop, PARKED_CHECK_SECONDS)
                for processor in parked:
                    with suppress(PerdureError):  # The next look tries again.
                        await self.look_at_decision(processor)
        finally:
            self._watching_parked = False

    async def look_at_decision(self, processor: PartitionProcessor) -> None:
        """Have a parked partition go on if its record is to be skipped. Raises what metadata do."""
        claim = await read_claim(self._metadata, processor.partition)
        parked = processor.parked
        there = processor is self._host.processors[processor.partition]
        if claim is None or parked is None or not there:
            return
        if any(skip.lsn == parked.lsn for skip in claim.skips):
            _log.warning(
                "partition goes on without a record", partition=processor.partition, lsn=parked.lsn
            )
            self.begin_again(processor)

    def begin_again(self, processor: PartitionProcessor) -> None:
        """Have a partition that has stopped start over from the store, as after a restart."""
        if processor.log is not None:
            processor.log.resign()
        self._host.finish_turn()
        self._host.read_anew(processor.partition)
        self._set_out(self._seats[processor.partition], "")

    # The rest ------------------------------------------------------------------------------------

    def _report(self, seat: _Seat, error: PerdureError, failures: int) -> None:
        if failures == 1:
            _log.warning(
                "partition cannot become what it is placed as: trying again",
                partition=seat.partition,
                placed=seat.wanted,
                code=error.code,
                reason=str(error),
            )

    async def _pause(self, failures: int) -> None:
        await pause(self._loop, RETRY.wait_seconds(failures, self._random))


def _is_behind(processor: PartitionProcessor) -> bool:
    """Whether the log does not have any more what a partition is to apply next."""
    log, applied_lsn = processor.log, processor.written_lsn
    try:
        return log is not None and trim_point_for(log, applied_lsn) > applied_lsn
    except PerdureError:
        return False  # Nor does the log say: it is what is damaged.
