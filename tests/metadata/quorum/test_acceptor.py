"""What one metadata server promises, accepts, refuses and keeps."""

from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.core.errors import StorageCorruptError, StorageFormatError
from perdure.core.random import SeededRandom
from perdure.core.storage.memory import MemoryStore
from perdure.core.storage.rocks import RocksStore
from perdure.metadata.quorum import acceptor as acceptor_module
from perdure.metadata.quorum import messages as m
from perdure.metadata.quorum.acceptor import CONFIGURATION_KEY, Acceptor
from perdure.metadata.quorum.configuration import Configuration, Member, encode_configuration
from perdure.metadata.quorum.registers import (
    BEFORE_ALL_BALLOTS,
    UNTOUCHED,
    Ballot,
    encode_register,
    make_ballot,
)

NONCE = b"n" * 8
FIRST = encode_register(UNTOUCHED.changed(b"first", NONCE))
SECOND = encode_register(UNTOUCHED.changed(b"second", NONCE))
NOTHING = encode_register(UNTOUCHED)


def ballot(number: int, proposer: bytes = b"p") -> Ballot:
    """A ballot."""
    return make_ballot(number, proposer * 16)


def opened(disk: MemoryStore) -> Acceptor:
    """A server on a disk."""
    return Acceptor(disk, name="n1", random=SeededRandom(1))


def one(acceptor: Acceptor, request: m.Request) -> m.Reply:
    """The answer to one request."""
    (reply,) = acceptor.answer([request])
    return reply


def list_of(acceptor: Acceptor, epoch: int = 1, fingerprint: str = "cluster") -> Configuration:
    """A list with the server and two others."""
    others = tuple(Member(name.encode() * 8, name, f"{name}:5122") for name in ("n2", "n3"))
    return Configuration(epoch, fingerprint, (Member(acceptor.server_id, "n1", "n1:5122"), *others))


def member(disk: MemoryStore) -> Acceptor:
    """A server of a cluster."""
    acceptor = opened(disk)
    assert one(acceptor, m.Install(list_of(acceptor))) == m.Done()
    return acceptor


def test_a_promise_refuses_what_is_below_it_and_shows_what_is_accepted() -> None:
    acceptor = member(MemoryStore())

    assert one(acceptor, m.Prepare(1, b"uk", ballot(5))) == m.Held(
        BEFORE_ALL_BALLOTS, BEFORE_ALL_BALLOTS, NOTHING
    )
    assert one(acceptor, m.Prepare(1, b"uk", ballot(4))) == m.Beaten(ballot(5))
    assert one(acceptor, m.Accept(1, b"uk", ballot(4), FIRST)) == m.Beaten(ballot(5))
    # A message that comes twice is answered twice.
    assert one(acceptor, m.Prepare(1, b"uk", ballot(5))) == m.Held(
        ballot(5), BEFORE_ALL_BALLOTS, NOTHING
    )
    assert one(acceptor, m.Accept(1, b"uk", ballot(5), FIRST)) == m.Done()
    assert one(acceptor, m.Accept(1, b"uk", ballot(5), FIRST)) == m.Done()
    assert one(acceptor, m.Read(1, b"uk")) == m.Held(ballot(5), ballot(5), FIRST)
    assert one(acceptor, m.Prepare(1, b"uk", ballot(7))) == m.Held(ballot(5), ballot(5), FIRST)
    assert one(acceptor, m.Read(1, b"uk")) == m.Held(ballot(7), ballot(5), FIRST)


def test_accepting_promises_too() -> None:
    acceptor = member(MemoryStore())
    assert one(acceptor, m.Accept(1, b"uk", ballot(5), FIRST)) == m.Done()

    assert one(acceptor, m.Accept(1, b"uk", ballot(4), SECOND)) == m.Beaten(ballot(5))
    assert one(acceptor, m.Prepare(1, b"uk", ballot(4))) == m.Beaten(ballot(5))
    assert one(acceptor, m.Read(1, b"uk")) == m.Held(ballot(5), ballot(5), FIRST)


def test_registers_are_independent() -> None:
    acceptor = member(MemoryStore())
    one(acceptor, m.Accept(1, b"uk", ballot(5), FIRST))

    assert one(acceptor, m.Accept(1, b"ukk", ballot(1), SECOND)) == m.Done()
    assert one(acceptor, m.Read(1, b"u")) == m.Held(BEFORE_ALL_BALLOTS, BEFORE_ALL_BALLOTS, NOTHING)


def test_a_batch_is_one_write_and_one_sync_and_sees_itself() -> None:
    disk = MemoryStore()
    acceptor = member(disk)
    writes, syncs = disk.writes, disk.syncs
    replies = acceptor.answer(
        [
            m.Prepare(1, b"ua", ballot(1)),
            m.Prepare(1, b"ub", ballot(1)),
            m.Accept(1, b"ua", ballot(1), FIRST),
            m.Prepare(1, b"ua", ballot(3)),
            m.Accept(1, b"ua", ballot(2), SECOND),
            m.Read(1, b"ua"),
        ]
    )

    assert replies[2:] == [
        m.Done(),
        m.Held(ballot(1), ballot(1), FIRST),
        m.Beaten(ballot(3)),
        m.Held(ballot(3), ballot(1), FIRST),
    ]
    assert (disk.writes - writes, disk.syncs - syncs) == (1, 1)
    acceptor.answer([m.Read(1, b"ua"), m.Status(), m.List(1, b"", b""), m.Read(1, b"never")])
    assert (disk.writes - writes, disk.syncs - syncs) == (1, 1)


def test_it_counts_what_it_is_asked_and_answers() -> None:
    disk = MemoryStore()
    acceptor = opened(disk)
    assert acceptor.figures().is_member is False
    acceptor = member(disk)
    before = acceptor.figures().syncs
    acceptor.answer([m.Prepare(1, b"ua", ballot(2)), m.Accept(1, b"ub", ballot(1), FIRST)])
    acceptor.answer([m.Prepare(1, b"ua", ballot(1)), m.Read(0, b"ua")])
    figures = acceptor.figures()

    assert (figures.keys, figures.epoch, figures.is_member) == (2, 1, True)
    assert figures.syncs == before + 1
    assert figures.requests == {"install": 1, "prepare": 2, "accept": 1, "read": 1}
    assert figures.replies == {"done": 2, "held": 1, "beaten": 1, "superseded": 1}


@pytest.mark.parametrize("process_alone", [True, False])
def test_what_was_answered_is_there_after_a_crash(process_alone: bool) -> None:
    disk = MemoryStore()
    acceptor = member(disk)
    one(acceptor, m.Accept(1, b"ua", ballot(1), FIRST))
    one(acceptor, m.Prepare(1, b"ua", ballot(9)))
    again = opened(disk.reopen() if process_alone else disk.crash())

    assert again.server_id == acceptor.server_id
    assert again.configuration == acceptor.configuration
    assert one(again, m.Read(1, b"ua")) == m.Held(ballot(9), ballot(1), FIRST)
    assert one(again, m.Accept(1, b"ua", ballot(8), SECOND)) == m.Beaten(ballot(9))


@pytest.mark.parametrize("fail", [MemoryStore.fail_next_write, MemoryStore.fail_next_sync])
def test_nothing_is_shown_of_a_batch_that_failed(fail: Callable[[MemoryStore], None]) -> None:
    disk = MemoryStore()
    acceptor = member(disk)
    one(acceptor, m.Accept(1, b"ua", ballot(1), FIRST))
    fail(disk)
    replies = acceptor.answer(
        [m.Read(1, b"ua"), m.Accept(1, b"ua", ballot(2), SECOND), m.Prepare(1, b"ua", ballot(1))]
    )

    # Not even the refusal, which rests on what may be lost.
    assert all(isinstance(reply, m.Failed) for reply in replies)
    assert isinstance(one(acceptor, m.Read(1, b"ua")), m.Failed)
    assert isinstance(one(acceptor, m.Status()), m.Failed)
    assert one(opened(disk.crash()), m.Read(1, b"ua")) == m.Held(ballot(1), ballot(1), FIRST)


def test_a_server_that_starts_makes_durable_what_it_found() -> None:
    disk = MemoryStore()
    acceptor = member(disk)
    one(acceptor, m.Accept(1, b"ua", ballot(1), FIRST))
    found = MemoryStore({key: value for key, value in disk.scan(b"", b"\xff") if b"/a/" not in key})
    found.write([(key, value) for key, value in disk.scan(b"", b"\xff") if b"/a/" in key])
    shown = opened(found)

    assert one(shown, m.Read(1, b"ua")) == m.Held(ballot(1), ballot(1), FIRST)
    assert one(opened(found.crash()), m.Read(1, b"ua")) == m.Held(ballot(1), ballot(1), FIRST)


def test_lost_storage_makes_another_server() -> None:
    random = SeededRandom(1)
    first = Acceptor(MemoryStore(), name="n1", random=random)
    second = Acceptor(MemoryStore(), name="n1", random=random)

    assert first.server_id != second.server_id
    configuration = list_of(first)
    assert one(second, m.Install(configuration)) == m.Failed(
        "it is not in the list of servers that was sent to it"
    )
    assert one(second, m.Read(1, b"ua")) == m.Behind(0)


def test_requests_of_another_epoch_are_refused_with_the_list_or_the_wish_for_it() -> None:
    acceptor = member(MemoryStore())
    following = list_of(acceptor, epoch=3)

    for request in (
        m.Read(2, b"ua"),
        m.Prepare(2, b"ua", ballot(1)),
        m.Accept(2, b"ua", ballot(1), FIRST),
        m.List(2, b"", b""),
    ):
        assert one(acceptor, request) == m.Behind(1)
    # What comes behind the list in one batch is served under it.
    assert acceptor.answer([m.Install(following), m.Prepare(3, b"ua", ballot(1))])[0] == m.Done()
    assert one(acceptor, m.Accept(1, b"ua", ballot(1), FIRST)) == m.Superseded(following)
    # An older list comes late and changes nothing.
    assert one(acceptor, m.Install(list_of(acceptor))) == m.Done()
    assert acceptor.configuration == following


def test_a_removed_server_serves_nobody() -> None:
    disk = MemoryStore()
    acceptor = member(disk)
    without = Configuration(2, "cluster", list_of(acceptor).members[1:])
    assert one(acceptor, m.Install(without)) == m.Done()

    for server in (acceptor, opened(disk.crash())):
        assert one(server, m.Read(1, b"ua")) == m.Superseded(without)
        assert one(server, m.Read(2, b"ua")) == m.Failed("it was removed from the list of servers")
        assert isinstance(one(server, m.Fill("cluster", b"ua", ballot(1), FIRST)), m.Failed)


def test_before_a_cluster_begins_only_its_list_is_agreed_on() -> None:
    acceptor = opened(MemoryStore())
    first = encode_register(UNTOUCHED.changed(encode_configuration(list_of(acceptor)), NONCE))

    for request in (m.Read(0, b"ua"), m.Read(1, b"ua"), m.List(0, b"", b"")):
        assert one(acceptor, request) == m.Behind(0)
    assert isinstance(one(acceptor, m.Prepare(0, CONFIGURATION_KEY, ballot(1))), m.Held)
    assert one(acceptor, m.Accept(0, CONFIGURATION_KEY, ballot(1), first)) == m.Done()
    assert one(acceptor, m.Install(list_of(acceptor))) == m.Done()
    # Another attempt to begin comes late.
    assert one(acceptor, m.Prepare(0, CONFIGURATION_KEY, ballot(9))) == m.Superseded(
        list_of(acceptor)
    )
    assert one(acceptor, m.Read(1, CONFIGURATION_KEY)) == m.Held(ballot(1), ballot(1), first)


def test_an_attempt_to_begin_with_other_servers_does_not_come_back() -> None:
    acceptor = opened(MemoryStore())
    other = encode_register(
        UNTOUCHED.changed(encode_configuration(list_of(acceptor, fingerprint="other")), NONCE)
    )
    one(acceptor, m.Accept(0, CONFIGURATION_KEY, ballot(99), other))
    one(acceptor, m.Prepare(0, CONFIGURATION_KEY, ballot(100)))
    assert one(acceptor, m.Install(list_of(acceptor))) == m.Done()

    assert one(acceptor, m.Read(1, CONFIGURATION_KEY)) == m.Held(
        BEFORE_ALL_BALLOTS, BEFORE_ALL_BALLOTS, NOTHING
    )
    report = one(acceptor, m.Status())
    assert isinstance(report, m.Report)
    assert report.registers == 0


def test_a_server_that_is_filled_belongs_to_that_cluster_and_serves_nobody_yet() -> None:
    disk = MemoryStore()
    acceptor = opened(disk)
    assert one(acceptor, m.Fill("cluster", b"ua", ballot(2), SECOND)) == m.Done()
    assert one(acceptor, m.Fill("cluster", b"ua", ballot(1), FIRST)) == m.Beaten(ballot(2))
    joining = opened(disk.crash())

    assert one(joining, m.Read(1, b"ua")) == m.Behind(0)
    assert one(joining, m.Prepare(0, CONFIGURATION_KEY, ballot(1))) == m.Behind(0)
    assert isinstance(one(joining, m.Fill("other", b"ua", ballot(3), FIRST)), m.Failed)
    assert isinstance(one(joining, m.Install(list_of(joining, fingerprint="other"))), m.Failed)
    assert one(joining, m.Install(list_of(joining, epoch=4))) == m.Done()
    assert one(joining, m.Read(4, b"ua")) == m.Held(ballot(2), ballot(2), SECOND)
    assert isinstance(one(joining, m.Fill("cluster", b"ua", ballot(3), FIRST)), m.Failed)


def test_a_server_that_was_to_begin_a_cluster_is_not_filled_by_another() -> None:
    acceptor = opened(MemoryStore())
    one(acceptor, m.Prepare(0, CONFIGURATION_KEY, ballot(1)))

    assert isinstance(one(acceptor, m.Fill("cluster", b"ua", ballot(1), FIRST)), m.Failed)


def test_listing_goes_page_by_page_in_the_order_of_the_keys() -> None:
    acceptor = member(MemoryStore())
    names = sorted(b"u%d" % number for number in range(600))
    for name in names:
        one(acceptor, m.Accept(1, name, ballot(1), FIRST))
    one(acceptor, m.Prepare(1, b"u-promised", ballot(2)))
    one(acceptor, m.Prepare(1, b"u0", ballot(2)))
    found: list[m.Row] = []
    more = True
    while more:
        page = one(acceptor, m.List(1, b"u", found[-1].key if found else b""))
        assert isinstance(page, m.Page)
        assert len(page.rows) <= m.LIST_ROWS_MAX
        found += page.rows
        more = page.more

    assert [row.key for row in found] == [b"u-promised", *names]
    assert found[0] == m.Row(b"u-promised", ballot(2), BEFORE_ALL_BALLOTS, False)
    assert found[1] == m.Row(b"u0", ballot(2), ballot(1), True)
    assert found[2] == m.Row(b"u1", ballot(1), ballot(1), True)
    only = one(acceptor, m.List(1, b"u59", b""))
    assert isinstance(only, m.Page)
    assert [row.key for row in only.rows] == [b"u59", *(b"u%d" % n for n in range(590, 600))]


def test_a_listing_shows_what_its_own_batch_changed() -> None:
    acceptor = member(MemoryStore())
    _, page = acceptor.answer([m.Accept(1, b"ua", ballot(1), FIRST), m.List(1, b"u", b"")])

    assert page == m.Page([m.Row(b"ua", ballot(1), ballot(1), True)], False)


def test_a_full_server_takes_no_new_key_and_keeps_the_old_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceptor_module, "REGISTERS_MAX", 2)
    disk = MemoryStore()
    acceptor = member(disk)
    one(acceptor, m.Prepare(1, b"ua", ballot(1)))
    one(acceptor, m.Accept(1, b"ub", ballot(1), FIRST))

    for server in (acceptor, opened(disk)):
        assert isinstance(one(server, m.Prepare(1, b"uc", ballot(1))), m.Failed)
        assert isinstance(one(server, m.Accept(1, b"uc", ballot(1), FIRST)), m.Failed)
        assert one(server, m.Accept(1, b"ua", ballot(1), FIRST)) == m.Done()
        assert one(server, m.Accept(1, b"ub", ballot(2), SECOND)) == m.Done()


@pytest.mark.parametrize(
    "request_",
    [
        m.Prepare(1, b"ua", bytes(24)),
        m.Accept(1, b"ua", b"\xff" * 24, FIRST),
        m.Accept(1, b"ua", ballot(1), b"nonsense"),
        m.Accept(1, b"ua", ballot(1), b""),
    ],
)
def test_nonsense_is_refused_and_leaves_no_trace(request_: m.Request) -> None:
    disk = MemoryStore()
    acceptor = member(disk)
    writes = disk.writes

    assert isinstance(one(acceptor, request_), m.Failed)
    assert disk.writes == writes


def test_a_flipped_bit_is_found_and_costs_its_key_alone() -> None:
    disk = MemoryStore()
    acceptor = member(disk)
    one(acceptor, m.Accept(1, b"ua", ballot(1), FIRST))
    one(acceptor, m.Accept(1, b"ub", ballot(1), FIRST))
    one(acceptor, m.Prepare(1, b"uc", ballot(1)))
    for row_key in (b"quorum/a/ua", b"quorum/p/uc"):
        row = disk.get(row_key)
        assert row is not None
        disk.write([(row_key, row[:-1] + bytes((row[-1] ^ 1,)))])

    assert isinstance(one(acceptor, m.Read(1, b"ua")), m.Failed)
    assert isinstance(one(acceptor, m.Prepare(1, b"uc", ballot(2))), m.Failed)
    assert one(acceptor, m.Read(1, b"ub")) == m.Held(ballot(1), ballot(1), FIRST)


def test_a_server_whose_own_row_is_damaged_or_gone_does_not_start() -> None:
    disk = MemoryStore()
    acceptor = member(disk)
    one(acceptor, m.Prepare(1, b"ua", ballot(1)))
    row = disk.get(b"quorum/s")
    assert row is not None

    disk.write([(b"quorum/s", None)])
    with pytest.raises(StorageCorruptError, match="missing"):
        opened(disk)
    disk.write([(b"quorum/s", row[:-1] + b"?")])
    with pytest.raises(StorageCorruptError):
        opened(disk)
    disk.write([(b"quorum/s", b"\x02" + row[1:])])
    with pytest.raises(StorageFormatError):
        opened(disk)


def test_a_server_keeps_everything_in_files_too(tmp_path: Path) -> None:
    disk = RocksStore.open(tmp_path)
    acceptor = Acceptor(disk, name="n1", random=SeededRandom(1))
    one(acceptor, m.Install(list_of(acceptor)))
    for number in range(300):
        one(acceptor, m.Accept(1, b"u%03d" % number, ballot(1), FIRST))
    one(acceptor, m.Prepare(1, b"u000", ballot(2)))
    disk.close()
    disk = RocksStore.open(tmp_path)
    again = Acceptor(disk, name="n1", random=SeededRandom(2))

    assert again.server_id == acceptor.server_id
    assert one(again, m.Read(1, b"u000")) == m.Held(ballot(2), ballot(1), FIRST)
    page = one(again, m.List(1, b"u", b"u255"))
    assert isinstance(page, m.Page)
    assert [row.key for row in page.rows] == [b"u%03d" % number for number in range(256, 300)]
    disk.close()


def test_messages_come_back_from_their_encodings() -> None:
    acceptor = opened(MemoryStore())
    requests: list[m.Request] = [
        m.Read(1, b"ua"),
        m.Prepare(1, b"ua", ballot(1)),
        m.Accept(1, b"ua", ballot(1), FIRST),
        m.List(1, b"u", b""),
        m.Install(list_of(acceptor)),
        m.Fill("cluster", b"ua", ballot(1), FIRST),
        m.Status(),
    ]
    replies: list[m.Reply] = [
        m.Held(ballot(1), ballot(1), FIRST),
        m.Done(),
        m.Page([m.Row(b"ua", ballot(1), ballot(1), True)], True),
        m.Report(acceptor.server_id, "n1", "", None, 0),
        m.Beaten(ballot(1)),
        m.Superseded(list_of(acceptor)),
        m.Behind(0),
        m.Failed("so"),
    ]
    for number, request in enumerate(requests):
        assert m.decode_request(m.encode_numbered(number, request)) == (number, request)
    for number, reply in enumerate(replies):
        assert m.decode_reply(m.encode_numbered(number, reply)) == (number, reply)
