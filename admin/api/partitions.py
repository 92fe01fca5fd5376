"""The partitions over admin REST: look at them, and have one that has stopped go on."""

from contextlib import suppress
from typing import Final

import msgspec

from ...core.errors import PerdureError
from ...core.ids import LogId
from ...partition_processor.machine import RecordFailedError
from ...partition_processor.skipping import KnownElsewhere
from ...partition_processor.status import PartitionDetail, PartitionStatus
from ...partition_processor.tables.skipped import Skip
from ..errors import AdminRequestError, NoSuchResourceError
from ..view import AdminView
from .log_answers import RecordView
from .parameters import NUMBER_MAX, decode_body
from .partition_answers import RefillAnswer, SkipAnswer
from .record_view import view_record
from .routes import Request, Route
from .times import time_text

_DIGITS_MAX: Final = 9
_TEXT_SHOWN: Final = 20
_WHO_MAX: Final = 100
_WHAT_MAX: Final = 300
_ERROR_MAX: Final = 500


class SkipBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which record a partition is to go on without.

    Attributes:
        by: who decides it, for those who look later.
        dry_run: only show what would be skipped.
        accept_loss: what the last leader may have acknowledged behind it may be undone.
    """

    lsn: int
    by: str = ""
    dry_run: bool = False
    accept_loss: bool = False


class RefillBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing is to be said."""


class PartitionsApi:
    """``/partitions`` and what lies below it."""

    def __init__(self, view: AdminView) -> None:
        """Take what is shown."""
        self._view = view

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/partitions", self.list_partitions),
            Route("GET", "/partitions/{partition}", self.inspect),
            Route("POST", "/partitions/{partition}/skip", self.skip),
            Route("POST", "/partitions/{partition}/refill", self.refill),
        ]

    async def list_partitions(self, request: Request) -> dict[str, list[PartitionStatus]]:
        """How all partitions are."""
        return {"partitions": self._view.partitions()}

    async def inspect(self, request: Request) -> PartitionDetail:
        """One partition in full. Raises NoSuchResourceError."""
        detail = self._find(request)
        stopped = self._view.cluster_view.stopped_copies(detail.status.partition)
        return msgspec.structs.replace(detail, stopped=stopped)

    def _find(self, request: Request) -> PartitionDetail:
        (number,) = request.parts
        detail = None
        if number.isascii() and number.isdigit() and len(number) <= _DIGITS_MAX:
            detail = self._view.partition(int(number))
        if detail is None:
            raise NoSuchResourceError(
                f"this node has no partition {number[:_TEXT_SHOWN]!r}; GET /partitions lists "
                "those it has"
            )
        return detail

    async def skip(self, request: Request) -> SkipAnswer:
        """Go on without the record that a partition is parked at, on every replica.

        Raises NoSuchResourceError, AdminRequestError, SkipRefusedError, and what the metadata store
        raises: then it may have been decided, and asking again is right.
        """
        body = decode_body(request.body, SkipBody, '{"lsn": of the record, "by": who decides it}')
        if not 1 <= body.lsn <= NUMBER_MAX or len(body.by) > _WHO_MAX:
            raise AdminRequestError(
                f"lsn counts from 1, and by has {_WHO_MAX} letters at most: not {body.lsn} and "
                f"{body.by[:_TEXT_SHOWN]!r}"
            )
        partition = self._find(request).status.partition
        view = self._view
        parked = view.manager.processors[partition].parked
        record = None if parked is None or parked.lsn != body.lsn else _shown(parked)
        skip, already = await view.manager.skip(
            Skip(
                lsn=body.lsn,
                what="" if record is None else _line(record),
                error="" if parked is None else str(parked)[:_ERROR_MAX],
                by=body.by,
                node=view.node_name,
                at_ns=view.time_ns(),
            ),
            partition,
            KnownElsewhere(
                view.cluster_view.applied_elsewhere(partition),
                view.archived_lsn(LogId(partition)) or 0,
            ),
            accept_loss=body.accept_loss,
            dry_run=body.dry_run,
        )
        return SkipAnswer(
            partition=partition,
            skip=skip,
            time=time_text(skip.at_ns),
            already=already,
            dry_run=body.dry_run,
            behind=await self._behind(partition, body.lsn),
            record=record,
        )

    async def refill(self, request: Request) -> RefillAnswer:
        """Have this node's copy of a partition, which has stopped, begun anew.

        Raises NoSuchResourceError, RefillRefusedError.
        """
        decode_body(request.body, RefillBody, "{}")
        status = self._find(request).status
        self._view.manager.refill(status.partition)
        return RefillAnswer(status.partition, self._view.node_name, status.error)

    async def _behind(self, partition: int, lsn: int) -> int | None:
        """How many records the log has behind one; None where it does not tell now."""
        with suppress(PerdureError):
            log = await self._view.logs.open(LogId(partition))
            return max(0, (await log.find_tail()).lsn - 1 - lsn)
        return None


def _shown(parked: RecordFailedError) -> RecordView:
    return view_record(parked.lsn, 0, 0, parked.record)


def _line(record: RecordView) -> str:
    parts = (record.kind, record.invocation, record.detail or record.problem)
    return " ".join(part for part in parts if part)[:_WHAT_MAX]
