"""What invocations are that another one is linked with, wherever they are led."""

from collections.abc import Sequence
from typing import Final

import msgspec

from ...core.ids import InvocationId, MalformedIdError, invocation_id_text, parse_invocation_id
from ..elsewhere import Question
from ..errors import AdminRequestError
from ..view import AdminView
from .invocation_answers import InboxView, InvocationDetail, RelatedView
from .invocation_pages import target_of
from .invocation_scan import confirm_leads, find
from .parameters import decode_body
from .reach import Led, Reach
from .routes import Request, Route

PATH: Final = "/led/related"
"""Where another node asks for those that this one leads."""
IDS_MAX: Final = 1100
"""An invocation is linked with fewer."""


class RelatedBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which invocations are asked about."""

    ids: list[str]


class LedRelated(Led, frozen=True, kw_only=True):
    """Target and status of those that are known, by their ids."""

    known: dict[str, tuple[str, str]]


class RelatedApi:
    """Completes what is told about the invocations that another one is linked with."""

    def __init__(self, view: AdminView, reach: Reach) -> None:
        """Take the node, and how it reaches others."""
        self._view = view
        self._reach = reach

    def peer_routes(self) -> list[Route]:
        """What other nodes ask."""
        return [Route("POST", PATH, self._tell)]

    async def completed(self, detail: InvocationDetail) -> InvocationDetail:
        """The detail with target and status of those that other nodes lead, as far as they tell.

        Cancelling is safe.
        """
        inbox = detail.inbox
        views = [
            view
            for view in (
                detail.started_by,
                detail.restarted_from,
                None if inbox is None else inbox.holder,
                *detail.waiters,
            )
            if view is not None
        ]
        known = await self._known([view.id for view in views if view.target is None])
        if not known:
            return detail

        def told(view: RelatedView) -> RelatedView:
            target, status = known.get(view.id, (view.target, view.status))
            return msgspec.structs.replace(view, target=target, status=status)

        return msgspec.structs.replace(
            detail,
            started_by=None if detail.started_by is None else told(detail.started_by),
            restarted_from=None if detail.restarted_from is None else told(detail.restarted_from),
            inbox=None if inbox is None else InboxView(told(inbox.holder), inbox.place),
            waiters=[told(view) for view in detail.waiters],
        )

    async def related(self, view: RelatedView | None) -> RelatedView | None:
        """One of them, in the same way."""
        if view is None or view.target is not None:
            return view
        known = await self._known([view.id])
        target, status = known.get(view.id, (view.target, view.status))
        return msgspec.structs.replace(view, target=target, status=status)

    async def _known(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Target and status of those that other nodes lead and know."""
        by_partition: dict[int, list[str]] = {}
        manager = self._view.manager
        for text in dict.fromkeys(ids):
            partition = manager.processor_of(parse_invocation_id(text)).partition
            if manager.is_elsewhere(partition):
                by_partition.setdefault(partition, []).append(text)
        if not by_partition:
            return {}

        def chosen(partitions: list[int]) -> list[str]:
            return [text for partition in partitions for text in by_partition[partition]]

        async def here(partitions: list[int]) -> LedRelated:
            return await self._led(chosen(partitions))

        gathered = await self._reach.of_partitions(
            by_partition,
            lambda partitions: Question(
                "POST", PATH, body=msgspec.json.encode(RelatedBody(chosen(partitions)))
            ),
            LedRelated,
            here,
            # It is not what was asked for: nobody waits for a leader because of it.
            hold_seconds=0.0,
        )
        return {text: told for answer in gathered.answers for text, told in answer.known.items()}

    async def _tell(self, request: Request) -> LedRelated:
        """Those of the invocations that this node leads. Raises AdminRequestError."""
        body = decode_body(request.body, RelatedBody, '{"ids": [invocation ids]}')
        if len(body.ids) > IDS_MAX:
            raise AdminRequestError(f"ids has {len(body.ids)} items: give {IDS_MAX} at most")
        return await self._led(body.ids)

    async def _led(self, ids: Sequence[str]) -> LedRelated:
        manager = self._view.manager
        places: dict[int, list[InvocationId]] = {}
        for text in ids:
            try:
                invocation_id = parse_invocation_id(text)
            except MalformedIdError as error:
                raise AdminRequestError(error.message) from None
            places.setdefault(manager.processor_of(invocation_id).partition, []).append(
                invocation_id
            )
        told = await confirm_leads(manager, places)
        known: dict[str, tuple[str, str]] = {}
        for invocation_id in (item for partition in told for item in places[partition]):
            found = find(manager, invocation_id)
            if found is not None:
                known[invocation_id_text(invocation_id)] = target_of(found.invocation), found.status
        return LedRelated(told=told, known=known)
