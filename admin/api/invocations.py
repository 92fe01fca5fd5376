"""The invocations over admin REST: find them, look into one, act on many."""

from typing import Final
from urllib.parse import urlencode

from ...core.ids import InvocationId, MalformedIdError, invocation_id_text, parse_invocation_id
from ..elsewhere import Question
from ..errors import AdminRequestError, NoSuchResourceError
from ..view import AdminView
from .invocation_answers import InvocationDetail, InvocationsPage, OperationAnswer
from .invocation_detail import ENTRIES_MAX, read_detail
from .invocation_operations import OPERATIONS, Operator
from .invocation_pages import (
    FILTERS,
    LedPage,
    merged_page,
    partitions_of,
    read_led_page,
    read_query,
)
from .invocation_scan import confirm_lead, find
from .parameters import NUMBER_MAX, Parameters, partitions_text
from .reach import Reach, asked_partitions
from .related import RelatedApi
from .routes import Request, Route

LED_PATH: Final = "/led/invocations"
"""Where another node asks for its part of a page."""
_TEXT_SHOWN: Final = 64


class InvocationsApi:
    """``/invocations`` and what lies below it."""

    def __init__(self, view: AdminView, reach: Reach) -> None:
        """Take the node, and how it answers for the whole cluster."""
        self._view = view
        self._reach = reach
        self._operator = Operator(view, reach)
        self._related = RelatedApi(view, Reach(view))

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/invocations", self.list_invocations),
            Route("GET", "/invocations/{invocation}", self.describe),
            Route("POST", "/invocations/{operation}", self.operate),
        ]

    def peer_routes(self) -> list[Route]:
        """What other nodes ask."""
        return [
            Route("GET", LED_PATH, self.list_led),
            Route("GET", "/invocations/{invocation}", self.describe),
            *self._operator.peer_routes(),
            *self._related.peer_routes(),
        ]

    async def list_invocations(self, request: Request) -> InvocationsPage:
        """A page of those that pass the filters, of the whole cluster."""
        query = read_query(Parameters(request.query, FILTERS))
        manager = self._view.manager

        def ask(partitions: list[int]) -> Question:
            part = urlencode({"partitions": partitions_text(partitions)})
            return Question("GET", LED_PATH, f"{request.query}&{part}" if request.query else part)

        async def here(partitions: list[int]) -> LedPage:
            return await read_led_page(manager, query, partitions)

        gathered = await self._reach.of_partitions(
            partitions_of(manager, query), ask, LedPage, here
        )
        return merged_page(gathered.answers, gathered.missing, query, self._view.time_ns())

    async def list_led(self, request: Request) -> LedPage:
        """What this node has of a page, in partitions that it is asked about."""
        parameters = Parameters(request.query, (*FILTERS, "partitions"))
        partitions = asked_partitions(self._view, parameters)
        return await read_led_page(self._view.manager, read_query(parameters), partitions)

    async def describe(self, request: Request) -> object:
        """One invocation in full, as the node that leads its partition has it.

        Raises AdminRequestError, NoSuchResourceError, NotLeadingError, TransportError.
        """
        parameters = Parameters(request.query, ("from_entry", "limit"))
        from_entry = parameters.number("from_entry", 0, NUMBER_MAX) or 0
        limit = parameters.number("limit", 0, ENTRIES_MAX)
        invocation_id = read_id(request.parts[0])

        async def here() -> InvocationDetail:
            return await self._describe(
                invocation_id, from_entry, ENTRIES_MAX if limit is None else limit
            )

        path = f"/invocations/{invocation_id_text(invocation_id)}"
        return await self._reach.at_leader(
            self._view.manager.processor_of(invocation_id).partition,
            Question("GET", path, request.query),
            here,
        )

    async def _describe(
        self, invocation_id: InvocationId, from_entry: int, limit: int
    ) -> InvocationDetail:
        """Raises NoSuchResourceError, NotLeadingError."""
        manager = self._view.manager
        processor = manager.processor_of(invocation_id)
        if processor.leading:
            await confirm_lead(processor)
        found = find(manager, invocation_id)
        if found is None:
            raise NoSuchResourceError(
                f"no invocation {invocation_id_text(invocation_id)} is known; it was never "
                "started, or has been forgotten since it completed"
            )
        detail = await read_detail(
            manager, found, from_entry=from_entry, limit=limit, now_ns=self._view.time_ns()
        )
        return await self._related.completed(detail)

    async def operate(self, request: Request) -> OperationAnswer:
        """Do something to up to a thousand. Raises AdminRequestError or NoSuchResourceError."""
        Parameters(request.query, ())
        (operation,) = request.parts
        if operation not in OPERATIONS:
            raise NoSuchResourceError(
                f"{operation[:_TEXT_SHOWN]!r} cannot be done to invocations; there are "
                f"{', '.join(OPERATIONS)}"
            )
        return await self._operator.operate(operation, request.body)


def read_id(text: str) -> InvocationId:
    """The raw id of a text. Raises AdminRequestError."""
    try:
        return parse_invocation_id(text)
    except MalformedIdError as error:
        raise AdminRequestError(error.message) from None
