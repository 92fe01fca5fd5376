"""Reading on and on: pages of records, one after the other, across restarts of the node."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from ....core.errors import TransportError
from ..admin_client import TIMEOUT_SECONDS, get
from ..output import RemoteError

if TYPE_CHECKING:
    from ...api.log_answers import RecordsPage

PAGE_RECORDS: Final = 1000
WAIT_SECONDS: Final = 10
RETRY_SECONDS: Final = 1.0
_LOG_CLOSED: Final = "PD0802"
"""What a node answers on its way down."""


def pause(seconds: float) -> None:
    """Wait; Ctrl-C interrupts it."""
    threading.Event().wait(seconds)


class RecordFeed:
    """The records of one log from some LSN on.

    Attributes:
        next_lsn: where to go on, None before the first page of a log that is read from its start.
        more: whether the log had more when the feed ended.
    """

    def __init__(
        self,
        admin: str,
        log: int,
        filters: Mapping[str, str],
        *,
        from_lsn: int | None,
        follow: bool,
        wait: Callable[[float], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            filters: query values.
            follow: go on at the tail, and when the node is away.
            wait: how to wait before the node is asked again.
        """
        self._admin = admin
        self._path = f"/logs/{log}/records"
        self._filters = filters
        self._follow = follow
        self._wait = wait or pause
        self._answered = False
        self.next_lsn = from_lsn
        self.more = False

    def pages(self, limit: Callable[[], int | None]) -> "Iterator[RecordsPage]":
        """Pages until the end that was asked for; never one with more than `limit` allows.

        Args:
            limit: how many records are still wanted; None for any number. At 0 the feed ends.

        Raises TransportError or RemoteError.
        """
        while (wanted := limit()) != 0:
            page = self._page(PAGE_RECORDS if wanted is None else min(wanted, PAGE_RECORDS))
            self.next_lsn = page.next_lsn
            self.more = not page.complete and page.next_lsn < page.tail_lsn
            yield page
            if page.complete or not (self.more or self._follow):
                return

    def _page(self, limit: int) -> "RecordsPage":
        from ...api.log_answers import RecordsPage

        query = {**self._filters, "limit": str(limit)}
        if self.next_lsn is not None:
            query["from"] = str(self.next_lsn)
        timeout = TIMEOUT_SECONDS
        # The first answer comes at once: it shows that the node and the log are there.
        if self._follow and self._answered:
            query["wait_ms"] = str(WAIT_SECONDS * 1000)
            timeout += WAIT_SECONDS
        away = False
        while True:
            try:
                page = get(
                    self._admin, self._path, RecordsPage, query=query, timeout_seconds=timeout
                )
            except (TransportError, RemoteError) as error:
                if not self._survives(error):
                    raise
                if not away:
                    print(f"notice: {error.message}; asking again", file=sys.stderr)
                away = True
                self._wait(RETRY_SECONDS)
                continue
            self._answered = True
            if away:
                print("notice: the node answers again", file=sys.stderr)
            return page

    def _survives(self, error: TransportError | RemoteError) -> bool:
        """Whether to ask again: a node that has answered before may only be restarting."""
        if not (self._follow and self._answered):
            return False
        return not isinstance(error, RemoteError) or error.remote_code == _LOG_CLOSED
