"""The logs over admin REST: look at them and read them; `log_changes` is what changes them."""

import asyncio
from collections.abc import Callable
from typing import Final, Literal
from urllib.parse import urlencode

from ...core.errors import StorageError
from ...core.ids import InvocationId, MalformedIdError, parse_invocation_id
from ...log.chain import Segment
from ...log.errors import LogError, LogUnavailableError
from ...log.types import KEY_BYTES, LogTail
from ...log.upkeep import HEALTHS, SegmentHealth
from ...log.virtual_log import VirtualLog
from ...partition_processor.records import KIND_NAMES
from ..elsewhere import Question
from ..errors import AdminRequestError
from ..view import AdminView
from .log_answers import (
    LogDetail,
    LogDigest,
    LogList,
    LogRow,
    RecordsPage,
    SegmentRow,
    TailAnswer,
)
from .log_changes import LogChanges, named_log, partition_of_log
from .log_digest import digest_of
from .parameters import NUMBER_MAX, Parameters, partitions_text, truth
from .reach import Led, Reach, asked_partitions
from .record_pages import PageReader, RecordsQuery, TailWaits
from .routes import Request, Route
from .times import TIME_FORM, parse_time_ns, time_text

LED_PATH: Final = "/led/logs"
"""Where another node asks for those of the partitions that this one leads."""
LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1000
WAIT_MS_MAX: Final = 10_000
_QUERY: Final = (
    "from",
    "to",
    "limit",
    "key",
    "invocation",
    "since",
    "until",
    "kind",
    "wait_ms",
)
_KINDS: Final = {name.lower(): kind for kind, name in KIND_NAMES.items()}


class LedLogs(Led, frozen=True, kw_only=True):
    """The logs of one node's partitions."""

    logs: list[LogRow]


class LogsApi:
    """``/logs`` and what lies below it. Everything raises what the log raises."""

    def __init__(self, view: AdminView, reach: Reach) -> None:
        """Take the node, and how it answers for the whole cluster."""
        self._view = view
        self._reach = reach
        self._changes = LogChanges(view, reach)
        self._waits = TailWaits()

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/logs", self.list_logs),
            Route("GET", "/logs/{log}", self.describe),
            Route("GET", "/logs/{log}/tail", self.find_tail),
            Route("GET", "/logs/{log}/records", self.records),
            Route("GET", "/logs/{log}/digest", self.digest),
            *self._changes.routes(),
        ]

    def close(self) -> None:
        """Let nobody wait for records any more."""
        self._waits.close()

    # Looking -------------------------------------------------------------------------------------

    def peer_routes(self) -> list[Route]:
        """What other nodes ask."""
        return [
            Route("GET", LED_PATH, self._tell_led),
            Route("GET", "/logs", self.list_logs),
            Route("GET", "/logs/{log}", self.describe),
            *self._changes.routes(),
        ]

    async def list_logs(self, request: Request) -> LogList:
        """Every log, each as the node tells of it that leads its partition.

        A log of which no leader tells is shown as this node has it, if it has opened it. With
        ``here=true`` those that this node has opened are shown, as it has them.
        """
        here = Parameters(request.query, ("here",)).value("here", truth)
        opened = self._view.logs.opened()
        if here or self._reach.others is None:
            return LogList([await self._row(log) for log in opened])
        gathered = await self._reach.of_partitions(
            range(len(self._view.manager.processors)),
            lambda partitions: Question(
                "GET", LED_PATH, urlencode({"partitions": partitions_text(partitions)})
            ),
            LedLogs,
            self._led,
        )
        rows = {row.log: row for answer in gathered.answers for row in answer.logs}
        for log in opened:
            if log.log not in rows:
                rows[log.log] = await self._row(log)
        return LogList([rows[number] for number in sorted(rows)], gathered.missing)

    async def _row(self, log: VirtualLog) -> LogRow:
        return await _row(log, self._view.segment_health)

    async def _tell_led(self, request: Request) -> LedLogs:
        parameters = Parameters(request.query, ("partitions",))
        return await self._led(asked_partitions(self._view, parameters))

    async def _led(self, partitions: list[int]) -> LedLogs:
        """The logs of those partitions that this node leads."""
        manager = self._view.manager
        led = [partition for partition in partitions if not manager.is_elsewhere(partition)]
        opened = {int(log.log): log for log in self._view.logs.opened()}
        told = [partition for partition in led if partition in opened]
        return LedLogs(told=told, logs=[await self._row(opened[number]) for number in told])

    async def describe(self, request: Request) -> object:
        """One log with its segments, as the node has it that leads its partition."""
        Parameters(request.query, ())
        number = partition_of_log(self._view, request)

        async def here() -> LogDetail:
            return await self._describe(request)

        if number is None:
            return await here()
        return await self._reach.at_leader(
            number, Question("GET", f"/logs/{number}", request.query), here
        )

    async def _describe(self, request: Request) -> LogDetail:
        log = await named_log(self._view, request)
        error = ""
        try:
            tail = await _tail_of(log, self._view.segment_health)
        except LogUnavailableError as failure:
            # What keeps it from telling is in the rows of its segments.
            error = f"{failure.code} {failure}"
            tail = LogTail(log.chain.tail.base_lsn, False)
        chain = log.chain
        trim_point = log.trim_point_lsn
        segments = [
            _segment_row(
                segment,
                tail_lsn=tail.lsn if segment is chain.tail else chain.segments[place + 1].base_lsn,
                state="open" if segment is chain.tail and not tail.sealed else "sealed",
                trim_point=trim_point,
                health=self._view.segment_health(segment),
            )
            for place, segment in enumerate(chain.segments)
        ]
        return LogDetail(
            log=log.log,
            tail_lsn=tail.lsn,
            sealed=tail.sealed,
            trim_point=trim_point,
            records=tail.lsn - 1 - trim_point,
            durable_lsn=self._view.durable_lsn(log.log),
            archived_lsn=self._view.archived_lsn(log.log),
            segments=segments,
            error=error,
        )

    async def find_tail(self, request: Request) -> TailAnswer:
        """Where a log ends, linearizable."""
        Parameters(request.query, ())
        log = await named_log(self._view, request)
        tail = await log.find_tail()
        state: Literal["open", "sealed"] = "sealed" if tail.sealed else "open"
        return TailAnswer(log.log, log.chain.tail.index, state, tail.lsn)

    async def records(self, request: Request) -> RecordsPage:
        """A page of records."""
        query = _records_query(Parameters(request.query, _QUERY))
        log = await named_log(self._view, request)
        loop = asyncio.get_running_loop()
        return await PageReader(log, query, loop=loop, waits=self._waits).read()

    async def digest(self, request: Request) -> LogDigest:
        """What the log-servers of each segment hold."""
        parameters = Parameters(request.query, ("from", "to"))
        from_lsn = parameters.number("from", 1, NUMBER_MAX) or 1
        to_lsn = parameters.number("to", 1, NUMBER_MAX) or NUMBER_MAX
        if to_lsn < from_lsn:
            raise AdminRequestError(f"to={to_lsn} is below from={from_lsn}: from comes first")
        return await digest_of(self._view, await named_log(self._view, request), from_lsn, to_lsn)


async def _tail_of(
    log: VirtualLog, health_of: Callable[[Segment], SegmentHealth | None]
) -> LogTail:
    """Where a log ends; told at once that it cannot be known where too few servers are there.

    To ask them would take longer than whoever looks after a cluster in trouble waits. Raises what
    `find_tail` raises.
    """
    last = log.chain.tail
    health = None if log.sealed else health_of(last)
    if health is not None and health.health in ("unavailable", "incomplete"):
        raise LogUnavailableError(
            f"segment {last.index} of log {log.log} is {health.health}, so where it ends is not "
            f"known: {health}"
        )
    return await log.find_tail()


async def _row(log: VirtualLog, health_of: Callable[[Segment], SegmentHealth | None]) -> LogRow:
    """A log's row; one that cannot be looked at does not hide the others."""
    error = ""
    sealed = log.sealed
    tail_lsn = trim_point = records = 0
    try:
        tail = await _tail_of(log, health_of)
        sealed = tail.sealed
        trim_point = log.trim_point_lsn
        tail_lsn = tail.lsn
        records = tail_lsn - 1 - trim_point
    except (LogError, StorageError) as failure:
        error = f"{failure.code} {failure}"
    last = log.chain.tail
    healths = [item for each in log.chain.segments if (item := health_of(each)) is not None]
    return LogRow(
        log=log.log,
        segments=len(log.chain.segments),
        trim_point=trim_point,
        tail_lsn=tail_lsn,
        records=records,
        sealed=sealed,
        kind=last.kind,
        loglet=last.params.loglet,
        epoch=last.params.epoch,
        sequencer=last.params.sequencer,
        error=error,
        health=max((item.health for item in healths), key=HEALTHS.index, default=""),
        problems=list(dict.fromkeys(text for item in healths for text in item.problems)),
    )


def _segment_row(
    segment: Segment,
    *,
    tail_lsn: int,
    state: Literal["open", "sealed"],
    trim_point: int,
    health: SegmentHealth | None,
) -> SegmentRow:
    params = segment.params
    placement = params.placement
    first_lsn = max(segment.base_lsn, trim_point + 1)
    return SegmentRow(
        index=segment.index,
        base_lsn=segment.base_lsn,
        tail_lsn=tail_lsn,
        state=state,
        trim_point=trim_point if trim_point >= segment.base_lsn else None,
        records=tail_lsn - first_lsn,
        kind=segment.kind,
        loglet=params.loglet,
        epoch=params.epoch,
        sequencer=params.sequencer,
        since=time_text(params.record_time_ns) if params.record_time_ns else None,
        servers=[] if placement is None else [member.node for member in placement.members],
        copies=1 if placement is None else placement.nodes,
        health="" if health is None else health.health,
        problems=[] if health is None else list(health.problems),
    )


def _records_query(parameters: Parameters) -> RecordsQuery:
    """What a query asks for. Raises AdminRequestError."""
    from_lsn = parameters.number("from", 1, NUMBER_MAX)
    to_lsn = parameters.number("to", 1, NUMBER_MAX)
    limit = parameters.number("limit", 1, LIMIT_MAX)
    since_ns = parameters.value("since", parse_time_ns)
    until_ns = parameters.value("until", parse_time_ns)
    wait_ms = parameters.number("wait_ms", 0, WAIT_MS_MAX)
    if to_lsn is not None and from_lsn is not None and to_lsn < from_lsn:
        raise AdminRequestError(f"to={to_lsn} is below from={from_lsn}: from comes first")
    if since_ns is not None and until_ns is not None and until_ns < since_ns:
        raise AdminRequestError(f"until is before since: since comes first; each is {TIME_FORM}")
    return RecordsQuery(
        from_lsn=from_lsn or 1,
        to_lsn=to_lsn,
        limit=limit or LIMIT_DEFAULT,
        key=parameters.value("key", _read_key),
        invocation=parameters.value("invocation", _read_invocation),
        since_ns=since_ns,
        until_ns=until_ns,
        kind=parameters.value("kind", _read_kind),
        wait_seconds=(wait_ms or 0) / 1000,
    )


def _read_key(text: str) -> bytes:
    wanted = f"{2 * KEY_BYTES} hexadecimal digits, as a record's keys are shown"
    try:
        key = bytes.fromhex(text)
    except ValueError:
        raise ValueError(wanted) from None
    if len(key) != KEY_BYTES:
        raise ValueError(wanted)
    return key


def _read_invocation(text: str) -> InvocationId:
    try:
        return parse_invocation_id(text)
    except MalformedIdError:
        raise ValueError('the id of an invocation, "inv_1" and 33 letters and digits') from None


def _read_kind(text: str) -> int:
    kind = _KINDS.get(text.lower())
    if kind is None:
        raise ValueError(f"one of {', '.join(KIND_NAMES.values())}")
    return kind
