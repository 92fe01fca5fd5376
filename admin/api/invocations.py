"""The invocations over admin REST: find them, look into one, act on many."""

from typing import Final

from ...core.ids import InvocationId, MalformedIdError, invocation_id_text, parse_invocation_id
from ..errors import AdminRequestError, NoSuchResourceError
from ..view import AdminView
from .invocation_answers import InvocationDetail, InvocationsPage, OperationAnswer
from .invocation_detail import ENTRIES_MAX, read_detail
from .invocation_operations import OPERATIONS, Operator
from .invocation_pages import FILTERS, read_page, read_query
from .invocation_scan import find
from .parameters import NUMBER_MAX, Parameters
from .routes import Request, Route

_TEXT_SHOWN: Final = 64


class InvocationsApi:
    """``/invocations`` and what lies below it."""

    def __init__(self, view: AdminView) -> None:
        """Take the node."""
        self._view = view
        self._operator = Operator(view)

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/invocations", self.list_invocations),
            Route("GET", "/invocations/{invocation}", self.describe),
            Route("POST", "/invocations/{operation}", self.operate),
        ]

    async def list_invocations(self, request: Request) -> InvocationsPage:
        """A page of those that pass the filters."""
        query = read_query(Parameters(request.query, FILTERS))
        return await read_page(self._view.manager, query, self._view.time_ns())

    async def describe(self, request: Request) -> InvocationDetail:
        """One invocation in full. Raises AdminRequestError, NoSuchResourceError, NotLeadingError.

        Where another node leads its partition, that one is to be asked.
        """
        parameters = Parameters(request.query, ("from_entry", "limit"))
        from_entry = parameters.number("from_entry", 0, NUMBER_MAX) or 0
        limit = parameters.number("limit", 0, ENTRIES_MAX)
        invocation_id = read_id(request.parts[0])
        processor = self._view.manager.processor_of(invocation_id)
        if processor.leading:
            await processor.confirm_lead()
        found = find(self._view.manager, invocation_id)
        if found is None:
            raise NoSuchResourceError(
                f"no invocation {invocation_id_text(invocation_id)} is known; it was never "
                "started, or has been forgotten since it completed"
            )
        return await read_detail(
            self._view.manager,
            found,
            from_entry=from_entry,
            limit=ENTRIES_MAX if limit is None else limit,
            now_ns=self._view.time_ns(),
        )

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
