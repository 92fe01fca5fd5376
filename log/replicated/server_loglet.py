"""One loglet on a log-server: what is staged, what is durable, and what it takes. No IO in here."""

from typing import Final

from ...core.storage.kv import PutOrDelete
from ..batch_codec import BatchHeader
from .messages import (
    HOLE,
    MALFORMED,
    NO_BALLOT,
    OK,
    SEALED,
    SUPERSEDED,
    WRONG_SEQUENCER,
    Accept,
    Ballot,
    Decided,
    Finish,
    Info,
    Seal,
    Store,
    Trim,
)
from .server_store import Mark, ServerStore

KNOWN_TAIL_STEP: Final = 4096
"""The known tail is written along when it is so many offsets above the one written last."""


class ServerLoglet:
    """What this server has of a loglet.

    The rule of no holes: a batch is taken only when everything before it is here, or is known to be
    committed. So whatever is here at offset n says that everything below n was at this server, or
    at a write quorum, before; and a write quorum at n has one at every offset below.

    Attributes:
        loglet: its id.
        tail, mark, record_time_ns: as staged, which is what decides.
        durable: what others may hear of: tail, mark and record time that are on the disk.
        known_tail: the greatest tail that anybody has said to be committed.
        solid_from: from this offset on to the tail everything is here, and need not be written
            again; not known to be so below.
    """

    __slots__ = (
        "durable",
        "known_tail",
        "loglet",
        "mark",
        "record_time_ns",
        "solid_from",
        "tail",
    )

    def __init__(self, loglet: int, mark: Mark, tail: int, record_time_ns: int) -> None:
        """Take what is on the disk, all of it durable."""
        final = mark.final
        if final is not None:
            tail = min(tail, final.tail)
            record_time_ns = min(record_time_ns, final.record_time_ns)
        self.loglet = loglet
        self.tail = tail
        self.mark = mark
        self.record_time_ns = record_time_ns
        self.known_tail = max(mark.known_tail, mark.trim_point + 1)
        self.solid_from = tail
        self.durable = (tail, mark, record_time_ns)

    @property
    def staged(self) -> tuple[int, Mark, int]:
        """What `durable` will be once everything up to here is on the disk."""
        return self.tail, self.mark, self.record_time_ns

    @property
    def visible_tail(self) -> int:
        """Readers get what is below: durable here and known to be committed."""
        tail, mark, _ = self.durable
        final = mark.final
        known = self.known_tail if final is None else min(self.known_tail, final.tail)
        return min(tail, known)

    def info(self, number: int, status: int = OK) -> Info:
        """What is durable."""
        tail, mark, record_time_ns = self.durable
        return Info(
            number,
            status,
            tail,
            self.known_tail,
            mark.trim_point,
            record_time_ns,
            mark.promised,
            mark.accepted,
            mark.final,
        )

    def learn(self, known_tail: int) -> bool:
        """Somebody says what is committed; whether that is news."""
        if known_tail <= self.known_tail:
            return False
        self.known_tail = known_tail
        return True

    def store(
        self,
        request: Store,
        header: BatchHeader,
        writes: list[PutOrDelete],
        ballot: Ballot | None = None,
    ) -> int:
        """Take a batch, or say why not; with a ballot it is part of a repair."""
        mark = self.mark
        first_offset, last_offset = header.first_offset, request.last_offset
        if first_offset + header.count - 1 != last_offset:
            return MALFORMED
        if ballot is None:
            if mark.promised > NO_BALLOT:
                return SEALED
            if mark.sequencer != request.sequencer:
                if mark.sequencer:
                    return WRONG_SEQUENCER
                self._remark(writes, sequencer=request.sequencer)
            if first_offset > max(self.tail, self.known_tail):
                return HOLE
        else:
            if ballot < mark.promised:
                return SUPERSEDED
            if mark.final is not None and last_offset >= mark.final.tail:
                return SEALED
            if ballot > mark.promised:
                self._remark(writes, promised=ballot)
        if last_offset <= mark.trim_point:
            return OK
        if first_offset < self.tail <= last_offset:
            return MALFORMED
        if self.solid_from <= first_offset and last_offset < self.tail:
            return OK
        # It may be a second copy after a restart: the same, for offsets are given once.
        writes.append(ServerStore.batch_row(self.loglet, last_offset, request.value))
        if last_offset >= self.tail:
            if first_offset > self.tail:
                self.solid_from = first_offset
            self.tail = last_offset + 1
            self.record_time_ns = header.record_time_ns
        if self.known_tail >= self.mark.known_tail + KNOWN_TAIL_STEP:
            self._remark(writes)
        return OK

    def seal(self, request: Seal, writes: list[PutOrDelete]) -> int:
        """Promise to listen to no smaller ballot, and to take nothing from the sequencer."""
        promised = self.mark.promised
        if request.ballot < promised:
            return SUPERSEDED
        if request.ballot > promised:
            self._remark(writes, promised=request.ballot)
        return OK

    def accept(self, request: Accept, writes: list[PutOrDelete]) -> int:
        """Remember an end, unless a greater ballot was promised."""
        mark = self.mark
        if mark.final is not None:
            return OK if mark.final.tail == request.tail else SUPERSEDED
        if request.ballot < mark.promised:
            return SUPERSEDED
        decided = Decided(request.ballot, request.tail, request.record_time_ns)
        self._remark(writes, promised=request.ballot, accepted=decided)
        return OK

    def finish(self, request: Finish, writes: list[PutOrDelete]) -> bool:
        """The end is decided; whether that is news."""
        mark = self.mark
        if mark.final is not None:
            return False
        promised: Ballot = max(mark.promised, (1, ""))
        final = Decided(promised, request.tail, request.record_time_ns)
        self.learn(request.tail)
        if self.tail > request.tail:
            self.tail, self.record_time_ns = request.tail, request.record_time_ns
            self.solid_from = min(self.solid_from, self.tail)
        self._remark(writes, promised=promised, final=final)
        return True

    def trim(self, request: Trim, writes: list[PutOrDelete]) -> bool:
        """Trim up to the end of a committed batch; whether that is further than before."""
        self.learn(request.known_tail)
        last_offset = request.last_offset
        if last_offset <= self.mark.trim_point or last_offset >= self.known_tail:
            return False
        if last_offset >= self.tail:
            self.tail, self.record_time_ns = last_offset + 1, request.record_time_ns
            self.solid_from = self.tail
        self._remark(writes, trim_point=last_offset, trimmed_time_ns=request.record_time_ns)
        return True

    def _remark(
        self,
        writes: list[PutOrDelete],
        *,
        sequencer: str | None = None,
        promised: Ballot | None = None,
        accepted: Decided | None = None,
        final: Decided | None = None,
        trim_point: int | None = None,
        trimmed_time_ns: int | None = None,
    ) -> None:
        mark = self.mark
        self.mark = Mark(
            mark.sequencer if sequencer is None else sequencer,
            mark.promised if promised is None else promised,
            mark.accepted if accepted is None else accepted,
            mark.final if final is None else final,
            mark.trim_point if trim_point is None else trim_point,
            mark.trimmed_time_ns if trimmed_time_ns is None else trimmed_time_ns,
            self.known_tail,
        )
        writes.append(ServerStore.mark_row(self.loglet, self.mark))
