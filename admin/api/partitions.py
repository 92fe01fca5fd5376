"""The partitions over admin REST."""

from typing import Final

from ...partition_processor.status import PartitionDetail, PartitionStatus
from ..errors import NoSuchResourceError
from ..view import AdminView
from .routes import Request, Route

_DIGITS_MAX: Final = 9
_TEXT_SHOWN: Final = 20


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
        ]

    async def list_partitions(self, request: Request) -> dict[str, list[PartitionStatus]]:
        """How all partitions are."""
        return {"partitions": self._view.partitions()}

    async def inspect(self, request: Request) -> PartitionDetail:
        """One partition in full. Raises NoSuchResourceError."""
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
