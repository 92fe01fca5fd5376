"""Acceptor: the machine of one metadata server, which promises, accepts and remembers.

One register per key, agreed on as in "CASPaxos: Replicated State Machines without logs" (D.
Rystsov, 2018), with lists of servers that follow each other by epochs (see `configuration`).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from ...core.errors import MalformedMessageError, StorageError
from ...core.random import Random
from ...core.storage.kv import KvStore
from . import messages as m
from .acceptor_rows import (
    ServerRow,
    accepted_key,
    decode_accepted,
    decode_promise,
    encode_accepted,
    encode_promise,
    encode_server_row,
    open_server_row,
    promise_key,
    scan_keys,
    server_row_key,
)
from .configuration import Configuration, encode_configuration
from .registers import (
    BEFORE_ALL_BALLOTS,
    UNTOUCHED,
    Ballot,
    check_ballot,
    decode_register,
    encode_register,
    has_value,
)

REGISTERS_MAX: Final = 65_536
"""Keys that a server keeps, deleted ones included. There the store takes no new key any more."""

CONFIGURATION_KEY: Final = b"c"
"""The register of the list of servers itself."""

USER_KEYS: Final = b"u"
"""What the registers of the store's keys begin with."""

_UNTOUCHED: Final = encode_register(UNTOUCHED)


class AcceptorFigures(msgspec.Struct, frozen=True):
    """What a metadata server has done and has; see `core.server_metrics`."""

    keys: int
    keys_max: int
    epoch: int
    is_member: bool
    syncs: int
    requests: dict[str, int]
    replies: dict[str, int]


class Acceptor:
    """Answers batches of requests; a batch is one write and one sync.

    The store must not be used by anybody else under the key prefix of `acceptor_rows`. After a
    failed write or sync every request fails until the store is opened again: what of the last
    batch is durable is unknown, so nobody may see it nor its absence.
    """

    def __init__(self, store: KvStore, *, name: str, random: Random) -> None:
        """Take an open store, which the caller closes. Raises StorageError.

        A store without a server's row is that of a new server, and gets an id from `random`.
        """
        self._store = store
        self._name = name
        self._failure: str | None = None
        # What a process before this one wrote and did not sync must not be shown and then lost.
        store.sync()
        self._server = open_server_row(store, random)
        self._registers = sum(1 for _ in scan_keys(store, b"", b""))
        # Rows that the batch at hand is to write; reads of the batch see them.
        self._changed: dict[bytes, bytes | None] = {}
        self._syncs = 0
        self._requests: Counter[type[m.Request]] = Counter()
        self._replies: Counter[type[m.Reply]] = Counter()

    @property
    def server_id(self) -> bytes:
        """Who this is, for as long as its storage lives."""
        return self._server.id

    @property
    def fingerprint(self) -> str:
        """The cluster that it belongs to; "" while it belongs to none."""
        return self._server.fingerprint

    @property
    def configuration(self) -> Configuration | None:
        """The newest list of servers that it was told of."""
        return self._server.configuration

    def figures(self) -> AcceptorFigures:
        """What it has done since it was opened, and has now."""
        configuration = self._server.configuration
        return AcceptorFigures(
            keys=self._registers,
            keys_max=REGISTERS_MAX,
            epoch=0 if configuration is None else configuration.epoch,
            is_member=configuration is not None and configuration.has(self._server.id),
            syncs=self._syncs,
            requests={kind.__name__.lower(): count for kind, count in self._requests.items()},
            replies={kind.__name__.lower(): count for kind, count in self._replies.items()},
        )

    def answer(self, batch: Sequence[m.Request]) -> list[m.Reply]:
        """Answer requests in their order, after everything that they change is durable.

        Never raises StorageError: then every answer is `Failed`, refusals too, as they may rest on
        what is not durable. Holds the event loop for one sync when anything changes.
        """
        self._requests.update(map(type, batch))
        replies: list[m.Reply] = []
        if self._failure is None:
            replies = [self._answer_one(request) for request in batch]
            self._make_durable()
        if self._failure is not None:
            failed = m.Failed(f"its storage failed ({self._failure}): mend the disk and restart it")
            replies = [failed] * len(batch)
        self._replies.update(map(type, replies))
        return replies

    def _make_durable(self) -> None:
        if not self._changed:
            return
        # A batch that ends in any other way than by returning, an interrupt included, has failed.
        self._failure = "a write did not end"
        operations, self._changed = list(self._changed.items()), {}
        try:
            self._store.write(operations)
            self._store.sync()
            self._syncs += 1
        except StorageError as error:
            self._failure = error.message
        else:
            self._failure = None

    def _answer_one(self, request: m.Request) -> m.Reply:
        try:
            match request:
                case m.Status():
                    server = self._server
                    return m.Report(
                        server.id,
                        self._name,
                        server.fingerprint,
                        server.configuration,
                        self._registers,
                    )
                case m.Install(configuration):
                    return self._install(configuration)
                case m.Fill():
                    return self._fill(request)
                case m.Read() | m.Prepare() | m.Accept() | m.List():
                    key = None if isinstance(request, m.List) else request.key
                    refusal = self._refusal(request.epoch, key)
                    return self._serve(request) if refusal is None else refusal
                case _:
                    assert_never(request)
        except (StorageError, MalformedMessageError) as error:
            return m.Failed(error.message)

    def _refusal(self, epoch: int, key: bytes | None) -> m.Reply | None:
        """Why a request under an epoch is not served, None when it is."""
        server = self._server
        configuration = server.configuration
        if configuration is None:
            # A cluster begins with the list of its servers, agreed on by those servers alone.
            begins = epoch == 0 and key == CONFIGURATION_KEY and not server.fingerprint
            return None if begins else m.Behind(0)
        if epoch < configuration.epoch:
            return m.Superseded(configuration)
        if epoch > configuration.epoch:
            return m.Behind(configuration.epoch)
        if not configuration.has(server.id):
            return m.Failed("it was removed from the list of servers")
        return None

    def _serve(self, request: m.Read | m.Prepare | m.Accept | m.List) -> m.Reply:
        match request:
            case m.Read(_, key):
                return m.Held(self._promised(key), *self._accepted(key))
            case m.Prepare(_, key, ballot):
                return self._prepare(key, check_ballot(ballot))
            case m.Accept(_, key, ballot, register):
                return self._accept(key, check_ballot(ballot), register)
            case m.List(_, prefix, after):
                return self._list(prefix, after)
            case _:
                assert_never(request)

    def _prepare(self, key: bytes, ballot: Ballot) -> m.Reply:
        promised = self._promised(key)
        # The same ballot is the same proposer, whose message came twice.
        if ballot < promised:
            return m.Beaten(promised)
        accepted, register = self._accepted(key)
        if ballot > promised:
            if self._is_full(key):
                return _full()
            self._changed[promise_key(key)] = encode_promise(ballot)
        return m.Held(promised, accepted, register)

    def _accept(self, key: bytes, ballot: Ballot, register: bytes) -> m.Reply:
        decode_register(register)
        promised = self._promised(key)
        if ballot < promised:
            return m.Beaten(promised)
        accepted, _ = self._accepted(key)
        if ballot > accepted:
            if self._is_full(key):
                return _full()
            # Accepting promises, too: whoever asks takes the higher one of both rows.
            self._changed[accepted_key(key)] = encode_accepted(ballot, register)
        return m.Done()

    def _list(self, prefix: bytes, after: bytes) -> m.Reply:
        # A scan sees only what is in the store.
        self._make_durable()
        if self._failure is not None:
            return m.Failed(self._failure)
        rows: list[m.Row] = []
        for key in scan_keys(self._store, prefix, after):
            if len(rows) == m.LIST_ROWS_MAX:
                return m.Page(rows, True)
            accepted, register = self._accepted(key)
            rows.append(m.Row(key, self._promised(key), accepted, has_value(register)))
        return m.Page(rows, False)

    def _install(self, configuration: Configuration) -> m.Reply:
        server = self._server
        if server.fingerprint and server.fingerprint != configuration.fingerprint:
            return m.Failed("it belongs to another cluster")
        if server.configuration is None:
            if not configuration.has(server.id):
                return m.Failed("it is not in the list of servers that was sent to it")
            self._forget_other_beginnings(configuration)
        elif configuration.epoch <= server.configuration.epoch:
            return m.Done()
        self._set_server(ServerRow(server.id, configuration.fingerprint, configuration))
        return m.Done()

    def _forget_other_beginnings(self, configuration: Configuration) -> None:
        """Drop the list that a server accepted to begin with when another one was chosen.

        The one that was chosen is the only one that anybody can still choose among its servers; an
        attempt with other servers must not come back under a ballot that happens to be higher.
        """
        if configuration.epoch != 1:
            return
        _, encoded = self._accepted(CONFIGURATION_KEY)
        value = decode_register(encoded).value
        if value is not None and value != encode_configuration(configuration):
            self._changed[accepted_key(CONFIGURATION_KEY)] = None
            self._changed[promise_key(CONFIGURATION_KEY)] = None
            self._registers -= 1

    def _fill(self, request: m.Fill) -> m.Reply:
        server = self._server
        if server.configuration is not None:
            return m.Failed("it is, or was, a member already")
        if not request.fingerprint or server.fingerprint not in ("", request.fingerprint):
            return m.Failed("it belongs to another cluster")
        if not server.fingerprint:
            if self._registers:
                return m.Failed("it was to begin another cluster: clear its directory")
            self._set_server(ServerRow(server.id, request.fingerprint, None))
        return self._accept(request.key, check_ballot(request.ballot), request.register)

    def _set_server(self, server: ServerRow) -> None:
        self._server = server
        self._changed[server_row_key()] = encode_server_row(server)

    def _is_full(self, key: bytes) -> bool:
        """Whether `key` is new and there is no room for it; counts it when there is."""
        if self._get(promise_key(key)) is not None or self._get(accepted_key(key)) is not None:
            return False
        if self._registers >= REGISTERS_MAX:
            return True
        self._registers += 1
        return False

    def _promised(self, key: bytes) -> Ballot:
        """The highest ballot promised or accepted."""
        stored = self._get(promise_key(key))
        promised = BEFORE_ALL_BALLOTS if stored is None else decode_promise(key, stored)
        return max(promised, self._accepted(key)[0])

    def _accepted(self, key: bytes) -> tuple[Ballot, bytes]:
        stored = self._get(accepted_key(key))
        return (BEFORE_ALL_BALLOTS, _UNTOUCHED) if stored is None else decode_accepted(key, stored)

    def _get(self, row_key: bytes) -> bytes | None:
        if row_key in self._changed:
            return self._changed[row_key]
        return self._store.get(row_key)


def _full() -> m.Reply:
    return m.Failed(
        f"it keeps {REGISTERS_MAX} keys, deleted ones included, and takes no new one: use keys "
        "again instead of making new ones"
    )
