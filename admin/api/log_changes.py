"""Changing logs over admin REST: seal, reconfigure and trim them, at the node that leads."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from ...core.ids import LogId
from ...log.chain import Segment
from ...log.errors import UnknownProviderError, UnknownSegmentError
from ...log.memory.provider import KIND as MEMORY_KIND
from ...log.virtual_log import VirtualLog
from ..elsewhere import Question
from ..errors import (
    AdminRequestError,
    ProviderRefusedError,
    TrimRefusedError,
    VolatileProviderError,
)
from ..view import AdminView
from .log_answers import ReconfigureAnswer, SealAnswer, SegmentParamsView, TrimAnswer
from .log_loss import plan_loss
from .parameters import NUMBER_MAX, Parameters, decode_body, whole_number
from .reach import Reach
from .routes import Request, Route

_TEXT_SHOWN: Final = 20


class SealBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``segment`` is the index that is believed to be the last one.

    With ``accept_loss`` a segment is ended whose disks are lost; see `log_loss`. With ``dry_run``
    that is only looked at.
    """

    segment: int | None = None
    accept_loss: bool = False
    dry_run: bool = False


class ReconfigureBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``provider`` is the kind of the new segment; None keeps the one there is.

    ``sequencer`` is the node that gives out the offsets of the new segment; None is the leader's.
    """

    provider: str | None = None
    sequencer: str | None = None
    accept_loss: bool = False


class TrimBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``lsn`` is the last one that is to go."""

    lsn: int


class LogChanges:
    """What changes logs; any node has the one do it that leads. Raises what the log raises."""

    def __init__(self, view: AdminView, reach: Reach) -> None:
        """Take the node, and how it reaches the others."""
        self._view = view
        self._reach = reach

    def routes(self) -> list[Route]:
        """All of them, for operators and for other nodes."""
        return [
            Route("POST", "/logs/{log}/seal", self.seal),
            Route("POST", "/logs/{log}/reconfigure", self.reconfigure),
            Route("POST", "/logs/{log}/trim", self.trim),
        ]

    async def seal(self, request: Request) -> object:
        """Seal the whole log, at the node that leads its partition."""
        return await self._at_leader(request, "seal", self._seal)

    async def reconfigure(self, request: Request) -> object:
        """Go on in a new segment, at the node that leads; opens a log that is sealed."""
        return await self._at_leader(request, "reconfigure", self._reconfigure)

    async def trim(self, request: Request) -> object:
        """Remove records that nobody needs to get the partition's state back."""
        return await self._at_leader(request, "trim", self._trim)

    async def _at_leader(
        self, request: Request, action: str, change: Callable[[Request], Awaitable[object]]
    ) -> object:
        """Have the node change a log that leads its partition, with its own checks, once."""
        Parameters(request.query, ())
        number = partition_of_log(self._view, request)
        if number is None:
            return await change(request)
        return await self._reach.change_at_leader(
            number,
            Question("POST", f"/logs/{number}/{action}", body=request.body),
            lambda: change(request),
        )

    async def _seal(self, request: Request) -> SealAnswer:
        form = '{} or {"segment": the index of the last segment}'
        body = decode_body(request.body, SealBody, form)
        if body.dry_run and not body.accept_loss:
            raise AdminRequestError(
                "dry_run goes with accept_loss: nothing else is to be looked at"
            )
        log = await named_log(self._view, request)
        if body.accept_loss:
            return await self._seal_with_loss(log, body)
        already = (await log.find_tail()).sealed
        tail = await log.seal(body.segment)
        return SealAnswer(log.log, log.chain.tail.index, tail.lsn, already)

    async def _seal_with_loss(self, log: VirtualLog, body: SealBody) -> SealAnswer:
        plan = await plan_loss(self._view, log)
        if body.segment is not None and body.segment != plan.segment:
            raise UnknownSegmentError(log.log, body.segment, f"its last one is {plan.segment}")
        if body.dry_run:
            return SealAnswer(log.log, plan.segment, plan.tail_lsn, False, plan, True)
        self._view.give_up(log.chain.tail, plan.lost)
        tail = await log.seal(plan.segment)
        return SealAnswer(log.log, plan.segment, tail.lsn, False, plan)

    async def _reconfigure(self, request: Request) -> ReconfigureAnswer:
        kinds = self._view.logs.kinds
        form = f'{{}} or {{"provider": one of {", ".join(kinds)}, "sequencer": a node}}'
        body = decode_body(request.body, ReconfigureBody, form)
        log = await named_log(self._view, request)
        if body.provider is not None and body.provider not in kinds:
            raise UnknownProviderError(
                f"provider {body.provider[:_TEXT_SHOWN]!r} is none of {', '.join(kinds)}"
            )
        if body.provider is not None and (refusal := self._view.provider_refusal(body.provider)):
            raise ProviderRefusedError(
                f"log {log.log} cannot go on with provider {body.provider!r}: {refusal}"
            )
        await log.find_tail()
        old = log.chain.tail
        was_sealed = log.sealed
        forgets = body.provider == MEMORY_KIND and old.kind != MEMORY_KIND
        if forgets and not body.accept_loss:
            raise VolatileProviderError(
                f"log {log.log} is kept by provider {old.kind!r}; provider {MEMORY_KIND!r} forgets "
                "its records when the node ends, and the node does not start again without them: "
                "take another provider, or say that the loss is accepted (--accept-loss, "
                '"accept_loss": true)'
            )
        new = await log.reconfigure(body.provider, sequencer=body.sequencer or "")
        return ReconfigureAnswer(
            log=log.log,
            sealed_segment=old.index,
            tail_lsn=new.base_lsn,
            was_sealed=was_sealed,
            old=_params_view(old),
            new=_params_view(new),
        )

    async def _trim(self, request: Request) -> TrimAnswer:
        body = decode_body(request.body, TrimBody, '{"lsn": the last LSN to go}')
        log = await named_log(self._view, request)
        if not 1 <= body.lsn <= NUMBER_MAX:
            raise AdminRequestError(f"lsn {body.lsn} is out of range: LSNs count from 1")
        durable = self._view.durable_lsn(log.log)
        if body.lsn > durable:
            raise TrimRefusedError(
                f"log {log.log} may be trimmed up to LSN {durable}, not {body.lsn}: node "
                f"{self._view.node_name}, which leads its partition, has not stored durably what "
                "the records behind it did; give a lower LSN, or try again after the next sync "
                "(option log.trim_interval)"
            )
        archived = self._view.archived_lsn(log.log)
        if archived is not None and body.lsn > archived:
            raise TrimRefusedError(
                f"log {log.log} may be trimmed up to LSN {archived}, not {body.lsn}: no snapshot "
                f"that node {self._view.node_name}, which leads its partition, knows of has what "
                "the records behind it did, and other nodes may need them; give a lower LSN, or "
                f"take a snapshot first (perdure snapshots create --partition {log.log})"
            )
        before = log.trim_point_lsn
        return TrimAnswer(log.log, body.lsn, before, await log.trim(body.lsn))


def partition_of_log(view: AdminView, request: Request) -> int | None:
    """The partition of the log that a path names; None where it is refused, or has none."""
    (text,) = request.parts
    number = whole_number(text)
    there = number is not None and number < len(view.manager.processors)
    return number if there else None


async def named_log(view: AdminView, request: Request) -> VirtualLog:
    """The log that a path names. Raises AdminRequestError or UnknownLogError."""
    (text,) = request.parts
    number = whole_number(text)
    if number is None:
        raise AdminRequestError(
            f"{text[:_TEXT_SHOWN]!r} is no number of a log; GET /logs lists those there are"
        )
    return await view.logs.open(LogId(number))


def _params_view(segment: Segment) -> SegmentParamsView:
    params = segment.params
    return SegmentParamsView(
        segment.index, segment.kind, params.loglet, params.epoch, params.sequencer
    )
