"""What admin REST tells about logs; the command line reads the same types."""

from typing import Any, Literal

import msgspec

from ...log.replicated.holdings import Verdict
from ...log.upkeep import Health
from .missing import Missing


class LogRow(msgspec.Struct, frozen=True):
    """One log, as ``perdure logs list`` shows it.

    Attributes:
        trim_point: the last LSN that is gone, 0 when none is.
        tail_lsn: the first LSN that is not written.
        records: how many can be read.
        sealed: whether the log as a whole takes no records.
        kind: of the last segment's provider, as are `loglet`, `epoch` and `sequencer`.
        error: why the log cannot be looked at, empty otherwise.
        health: of its worst segment; empty where it is kept on one node.
        problems: what is wrong with the log-servers that keep it.
    """

    log: int
    segments: int
    trim_point: int
    tail_lsn: int
    records: int
    sealed: bool
    kind: str
    loglet: int
    epoch: int
    sequencer: str
    error: str = ""
    health: Health | Literal[""] = ""
    problems: list[str] = []


class LogList(msgspec.Struct, frozen=True):
    """All logs, by number; `missing` has those of which no leader could be asked."""

    logs: list[LogRow]
    missing: list[Missing] = []


class SegmentRow(msgspec.Struct, frozen=True):
    """One segment of a log.

    Attributes:
        base_lsn: LSN of its first record.
        tail_lsn: the first LSN behind it.
        trim_point: the last LSN of it that is gone, None while it is whole.
        records: how many of it can be read.
        since: no record of it is dated before this, ISO 8601; None for a log's first segment.
        servers: the log-servers that keep it; none where it is kept on one node.
        copies: how many of them have each record.
        health: how well it is kept, as far as the node that answers knows; empty as above.
        problems: what is wrong with those servers.
    """

    index: int
    base_lsn: int
    tail_lsn: int
    state: Literal["open", "sealed"]
    trim_point: int | None
    records: int
    kind: str
    loglet: int
    epoch: int
    sequencer: str
    since: str | None
    servers: list[str] = []
    copies: int = 1
    health: Health | Literal[""] = ""
    problems: list[str] = []


class LogDetail(msgspec.Struct, frozen=True):
    """One log in full, as ``perdure logs describe`` shows it.

    Attributes:
        durable_lsn: how far the log may be trimmed: what the node has applied durably that tells.
        archived_lsn: how far it may be trimmed besides: what a snapshot has; None where none are
            taken, and nothing waits for them.
        error: why it is not known where it ends; `tail_lsn` is where its last segment begins then.
    """

    log: int
    tail_lsn: int
    sealed: bool
    trim_point: int
    records: int
    durable_lsn: int
    archived_lsn: int | None
    segments: list[SegmentRow]
    error: str = ""


class ServerDigest(msgspec.Struct, frozen=True):
    """What one log-server holds of a segment.

    Attributes:
        status: ``ok``; ``no answer``; ``lost``, it has another disk than the segment was placed on;
            ``gone``, it has deleted the segment; ``failed`` or ``refused``.
        problem: why it did not answer, where that is known.
        tail_lsn: behind the last record that is there.
        trim_point: the last LSN that is trimmed there; None while nothing is.
        sealed: it takes nothing more.
        final_tail_lsn: where the segment ends for ever, if the server has heard of that.
        batches: how many of those compared are there, each matching its checksum.
        missing: first and last LSN of ranges that are not there, or are damaged.
        digest: over the borders of the batches there: the same where the same is.
    """

    server: str
    status: str
    problem: str = ""
    tail_lsn: int = 0
    trim_point: int | None = None
    sealed: bool = False
    final_tail_lsn: int | None = None
    batches: int = 0
    missing: list[tuple[int, int]] = []
    digest: str = ""


class SegmentDigest(msgspec.Struct, frozen=True):
    """What the log-servers of one segment hold, as they tell now.

    Attributes:
        verdict: see `holdings.Verdict`; empty for a segment that is kept on one node.
        from_lsn: the first LSN compared.
        to_lsn: the last one; below `from_lsn` where nothing was.
        copies: how many servers are to have each record.
        fewest: on how many of those that answered the record is that is on the fewest.
        complete: false where so much was asked for that only a part was compared.
    """

    index: int
    state: Literal["open", "sealed"]
    verdict: Verdict | Literal[""]
    from_lsn: int
    to_lsn: int
    copies: int = 1
    fewest: int = 1
    complete: bool = True
    servers: list[ServerDigest] = []


class LogDigest(msgspec.Struct, frozen=True):
    """What the log-servers hold of a log."""

    log: int
    segments: list[SegmentDigest]


class TailAnswer(msgspec.Struct, frozen=True):
    """Where a log ends; `state` is the whole log's."""

    log: int
    segment: int
    state: Literal["open", "sealed"]
    tail_lsn: int


class LossPlan(msgspec.Struct, frozen=True):
    """What a seal that accepts a loss comes to.

    Attributes:
        lost: the log-servers whose disks are gone; what only they had is lost.
        left: those that are left.
        tail_lsn: where the log ends by what they have.
        missing: first and last LSN of ranges below that are on none of them.
    """

    log: int
    segment: int
    lost: list[str]
    left: list[str]
    tail_lsn: int
    missing: list[tuple[int, int]]


class SealAnswer(msgspec.Struct, frozen=True):
    """What a seal came to; `already_sealed` when there was nothing to do.

    Attributes:
        loss: what was given up, where that was accepted.
        dry_run: nothing was done.
    """

    log: int
    segment: int
    tail_lsn: int
    already_sealed: bool
    loss: LossPlan | None = None
    dry_run: bool = False


class ReconfigureAnswer(msgspec.Struct, frozen=True):
    """What a reconfiguration came to.

    Attributes:
        sealed_segment: index of the segment that was the last one; an empty one has left the log.
        tail_lsn: where it ended and the new one begins.
        was_sealed: whether the whole log was sealed and takes records again now.
    """

    log: int
    sealed_segment: int
    tail_lsn: int
    was_sealed: bool
    old: "SegmentParamsView"
    new: "SegmentParamsView"


class SegmentParamsView(msgspec.Struct, frozen=True):
    """How a segment came to be."""

    segment: int
    kind: str
    loglet: int
    epoch: int
    sequencer: str


class TrimAnswer(msgspec.Struct, frozen=True):
    """What a trim came to.

    Attributes:
        requested: the last LSN that was to go.
        trim_point_before: the last LSN that was gone before.
        trim_point: the last one that is gone now; less than asked for within a batch.
    """

    log: int
    requested: int
    trim_point_before: int
    trim_point: int


class ConditionView(msgspec.Struct, frozen=True):
    """What was checked when a record was taken: nothing after `lsn` has written `key` (hex)."""

    key: str
    lsn: int


class ProducerView(msgspec.Struct, frozen=True):
    """Who numbered a record; `id` in hex."""

    id: str
    epoch: int
    sequence: int


class RecordView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record, its body as far as it tells what happened; what it does not have is left out.

    Attributes:
        segment: index of the one that holds it.
        time: of the record, ISO 8601 in UTC; `time_ns` are the same nanoseconds since 1970.
        kind: name of the command.
        keys: in hex; "all" for a record that touches every key.
        epoch: of the leader that wrote it; `sequence` is its number under that epoch.
        producer: who numbered it instead of the leader.
        attempt: of the invocation, 0 for none.
        invocation: id of the one that it is about.
        object_key: with `service` and `handler`, the target of an Invoke.
        frames: type names of the frames of an AttemptChunk; the last one is "…" when there are
            more than are listed.
        failure: code and message of an AttemptFailed.
        leader: the node that an AnnounceLeader names.
        detail: a line about it.
        fields: what else the body says, by the names of the command's fields; the messages of
            other partitions in a Deliver with theirs.
        problem: why the body cannot be read.
    """

    lsn: int
    segment: int
    time: str
    time_ns: int
    kind: str
    keys: list[str] | str
    conditions: list[ConditionView]
    epoch: int
    sequence: int
    producer: ProducerView | None
    attempt: int
    body_bytes: int
    traceparent: str | None = None
    invocation: str | None = None
    service: str | None = None
    handler: str | None = None
    object_key: str | None = None
    frames: list[str] | None = None
    failure: str | None = None
    leader: str | None = None
    detail: str | None = None
    fields: dict[str, Any] | None = None
    problem: str | None = None


class TrimGapView(msgspec.Struct, frozen=True):
    """LSNs that are gone, the first and the last of them."""

    trim_gap: tuple[int, int]


class RecordsPage(msgspec.Struct, frozen=True):
    """Records in their order.

    Attributes:
        records: `RecordView` or `TrimGapView`, not decoded.
        next_lsn: where to go on.
        tail_lsn: the log's tail when the page was made.
        complete: whether nothing behind `next_lsn` can be asked for any more.
    """

    records: list[msgspec.Raw]
    next_lsn: int
    tail_lsn: int
    complete: bool
