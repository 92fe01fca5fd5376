"""Errands: what servers that were away have missed is told them once they are back.

A deletion and a trim are done once a quorum has them. A server that was away then, or that left the
nodeset before, would keep what nobody reads any more for ever. So whoever orders a log tells every
server what is gone, and again after each new connection: a server that crashed between noting a
deletion and doing it does it then.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from ...core.ids import LogId
from ..chain import loglet_id
from .clients import ServerClient
from .messages import OK, Delete, Info, Reply, Request, Trim

UNDER_WAY_MAX: Final = 256
"""Errands without an answer at a time; the rest waits for the next round."""


class Errands:
    """What each server has been told by this process."""

    def __init__(self) -> None:
        """Nobody has been told anything."""
        # Per server and log or loglet: over which connection it has said that it did what.
        self._done: dict[tuple[str, str, int], tuple[int, int]] = {}
        self._under_way: set[tuple[str, str, int]] = set()

    def tell_deleted(self, clients: Iterable[ServerClient], log: LogId, first_kept: int) -> None:
        """Have those that do not know it yet delete all segments below an index."""
        first, end = loglet_id(log, 0), loglet_id(log, first_kept)
        for client in clients:
            self._tell(client, "delete", log, first_kept, lambda number: Delete(number, first, end))

    def tell_trimmed(
        self,
        client: ServerClient,
        storage: str,
        loglet: int,
        trimmed: tuple[int, int],
        known_tail: int,
    ) -> None:
        """Have a member trim up to an offset, the end of a batch of a record time."""
        last_offset, record_time_ns = trimmed
        self._tell(
            client,
            "trim",
            loglet,
            last_offset,
            lambda number: Trim(number, storage, loglet, last_offset, record_time_ns, known_tail),
        )

    def _tell(
        self,
        client: ServerClient,
        what: str,
        number: int,
        value: int,
        make: Callable[[int], Request],
    ) -> None:
        key, wanted = (client.node, what, number), (client.connections, value)
        if (
            not client.is_connected
            or self._done.get(key) == wanted
            or key in self._under_way
            or len(self._under_way) >= UNDER_WAY_MAX
        ):
            return
        self._under_way.add(key)
        client.ask(make, partial(self._answered, key, wanted))

    def _answered(
        self, key: tuple[str, str, int], wanted: tuple[int, int], reply: Reply | None
    ) -> None:
        self._under_way.discard(key)
        if isinstance(reply, Info) and reply.status == OK:
            self._done[key] = wanted
        # Anything else: the next round asks again.

    def forget(self, first: int, end: int) -> None:
        """Loglets of this range are deleted: nothing is to be trimmed there any more."""
        for key in [key for key in self._done if key[1] == "trim" and first <= key[2] < end]:
            del self._done[key]
