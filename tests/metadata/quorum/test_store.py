"""What a store does when servers are missing, answers are lost, and others change the same key."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from perdure.core.errors import TransportError
from perdure.metadata import (
    DoesNotExist,
    MatchesVersion,
    PreconditionFailedError,
    Version,
    VersionedValue,
    read_modify_write,
)
from perdure.metadata.quorum import (
    NotProvisionedError,
    OutcomeUnknownError,
    QuorumMetadataStore,
    QuorumNotReachedError,
    StrangerError,
)
from perdure.metadata.quorum import messages as m
from perdure.metadata.quorum.changes import KeyChange, Made, Refused, Unknown
from perdure.metadata.quorum.configuration import Configuration, Member
from perdure.metadata.quorum.registers import (
    BEFORE_ALL_BALLOTS,
    UNTOUCHED,
    WRITERS_MAX,
    Ballot,
    Register,
    encode_register,
    make_ballot,
)
from perdure.metadata.quorum.rounds import (
    Ask,
    ChangeRound,
    Chosen,
    Lost,
    Overtaken,
    ReadRound,
    Undecided,
)

from .lossy import MS, LossyConnection
from .simulated import Servers, simulate

MINE, OTHER = b"m" * 8, b"o" * 8


def test_a_store_works_while_less_than_half_of_its_servers_are_out() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        first = await store.put("key", b"1")
        servers.stop("n2")
        second = await store.put("key", b"2", MatchesVersion(first))
        servers.stop("n4")
        await servers.start("n2")

        assert await store.get("key") == VersionedValue(second, b"2")
        assert await servers.store("another").get("key") == VersionedValue(second, b"2")
        assert await store.keys("") == ["key"]

    simulate(scenario, 5)


@pytest.mark.parametrize("known", [True, False])
def test_without_a_quorum_calls_end_in_time_and_name_who_is_missing(known: bool) -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        if known:
            await store.put("key", b"1")
        servers.stop("n1")
        servers.network.cuts["n3", "client"] = None
        for call in (
            lambda: store.get("key"),
            lambda: store.put("key", b"2"),
            lambda: store.delete("key"),
            lambda: store.keys(""),
        ):
            began_at = servers.loop.time()
            with pytest.raises(QuorumNotReachedError, match="start or connect") as failed:
                await call()

            assert servers.loop.time() - began_at < 4
            assert failed.value.answered == ["n2"]
            assert sorted(failed.value.silent) == ["n1", "n3"]
            assert "nobody listens" in failed.value.silent["n1"]
            assert not failed.value.tried
            assert isinstance(failed.value, TransportError)
        servers.network.cuts.clear()

        assert (await store.get("key") is not None) == known

    simulate(scenario)


def test_servers_without_a_list_say_so() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.start()
        store = servers.store()
        with pytest.raises(NotProvisionedError, match="provision"):
            await store.get("key")
        assert await servers.operator().provision(servers.beginners, "cluster")

        assert await store.get("key") is None

    simulate(scenario)


def test_servers_of_another_cluster_are_refused() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = QuorumMetadataStore(servers.proposer("stranger", fingerprint="another cluster"))
        with pytest.raises((StrangerError, QuorumNotReachedError), match="another cluster"):
            await store.put("key", b"1")

        assert await servers.store().get("key") is None

    simulate(scenario)


def lose_acceptances(servers: Servers, names: list[str]) -> Callable[[], None]:
    """Have servers accept and nobody hear of it; gives what ends that."""
    travel = servers.network.travel

    def without(sender: LossyConnection, message: bytes | None, *, spared: bool) -> None:
        is_answer = message is not None and not spared and sender.owner in names
        if is_answer and m.decode_reply(message or b"")[1] == m.Done():
            servers.trace.add(sender.owner, "an acceptance is lost")
        else:
            travel(sender, message, spared=spared)

    def again() -> None:
        servers.network.travel = travel  # type: ignore[method-assign]

    servers.network.travel = without  # type: ignore[method-assign]
    return again


@pytest.mark.parametrize("losers", [["n1", "n2"], ["n1", "n2", "n3"]])
def test_a_put_whose_answer_was_lost_is_found_to_be_made(losers: list[str]) -> None:
    """The servers accept, the answers are lost, and the put finds itself when it asks again."""

    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        first = await store.put("key", b"1")
        again = lose_acceptances(servers, losers)
        put = asyncio.ensure_future(store.put("key", b"2", MatchesVersion(first)))
        await servers.loop.pause(100 * MS)
        assert all(
            (servers.disks[name].get(b"quorum/a/ukey") or b"").endswith(b"2")
            for name in servers.names
        )
        again()
        second = await put

        assert second == first + 1
        assert await store.get("key") == VersionedValue(second, b"2")
        with pytest.raises(PreconditionFailedError):
            await store.put("key", b"3", MatchesVersion(first))

    simulate(scenario)


def test_a_quiet_key_is_read_in_one_round_trip_and_without_a_write() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        version = await store.put("key", b"1")
        await servers.loop.pause(50 * MS)
        writes = sum(disk.writes for disk in servers.disks.values())
        sent = len(servers.trace.lines)

        assert await store.get("key") == VersionedValue(version, b"1")
        assert await store.get("never") is None
        await servers.loop.pause(50 * MS)
        assert sum(disk.writes for disk in servers.disks.values()) == writes
        asked = [line for line in servers.trace.lines[sent:] if "client    ->" in line]
        assert len(asked) == 6

    simulate(scenario)


def test_many_stores_that_change_one_key_all_get_through() -> None:
    def increment(current: VersionedValue | None) -> bytes:
        return b"%d" % (int(current.value) + 1 if current else 1)

    async def scenario(servers: Servers) -> None:
        await servers.begin()
        stores = [servers.store(f"client {number}") for number in range(6)]

        async def add(store: QuorumMetadataStore) -> None:
            for _ in range(5):
                await read_modify_write(store, "counter", increment, conflicts_max=100)

        await asyncio.gather(*(add(store) for store in stores))
        held = await stores[0].get("counter")

        assert held is not None
        assert held.value == b"30"

    simulate(scenario)


def test_calls_of_one_store_on_one_key_take_turns() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        await asyncio.gather(*(store.put("key", b"%d" % number) for number in range(20)))
        held = await store.get("key")

        assert held is not None
        assert held.version == 20
        assert store._turns == {}
        # No call beat another: each took the two writes of its own.
        assert servers.disks["n1"].puts <= 2 * 20 + 10

    simulate(scenario)


def test_a_turn_that_is_waited_for_too_long_is_given_up() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        await store.put("key", b"1")
        servers.stop("n1", "n2")
        results: list[Any] = await asyncio.gather(
            *(store.put("key", b"%d" % number) for number in range(5)), return_exceptions=True
        )

        assert all(isinstance(result, QuorumNotReachedError) for result in results)
        assert not any(result.tried for result in results)
        assert store._turns == {}

    simulate(scenario)


def test_a_server_with_a_failing_disk_is_named() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        servers.disks["n1"].fail_next_sync()
        await store.put("key", b"1")
        servers.stop("n2")
        with pytest.raises(QuorumNotReachedError, match="mend the disk") as failed:
            await store.put("key", b"2")

        assert list(failed.value.silent) == ["n1", "n2"]

    simulate(scenario)


def test_a_store_that_is_closed_ends_its_calls() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        await store.put("key", b"1")
        servers.stop("n1", "n2")
        waiting = asyncio.ensure_future(store.put("key", b"2"))
        await servers.loop.pause(20 * MS)
        await store.close()
        with pytest.raises(TransportError, match="closed"):
            await waiting
        with pytest.raises(TransportError, match="closed"):
            await store.get("key")

    simulate(scenario)


def test_servers_that_are_half_begun_are_told_from_missing_ones() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.start("n1", "n2")
        with pytest.raises(QuorumNotReachedError) as failed:
            await servers.store().get("key")

        assert failed.value.answered == ["n1:5122", "n2:5122"]
        assert list(failed.value.silent) == ["n3:5122"]

    simulate(scenario)


# A change, round by round ------------------------------------------------------------------------


def versions(count: int, writer: bytes = OTHER, start: Register = UNTOUCHED) -> Register:
    """A register that `writer` changed `count` times."""
    for _ in range(count):
        start = start.changed(b"x", writer)
    return start


def test_a_change_finds_out_what_became_of_its_earlier_round() -> None:
    before = versions(3)
    change = KeyChange("key", b"mine", MatchesVersion(Version(3)), MINE)
    made = change(before)
    assert made == before.changed(b"mine", MINE)
    assert change.outcome == Made(Version(4))

    # It was made, and perhaps others came after it.
    for count in range(WRITERS_MAX):
        later = versions(count, start=made)
        assert change(later) is later
        assert change.outcome == Made(Version(4))
    forgotten = versions(WRITERS_MAX, start=made)
    assert change(forgotten) is forgotten
    assert change.outcome == Unknown()
    # It was not made, and nobody came: it is tried again, as the same version.
    assert change(before) == made
    assert change.outcome == Made(Version(4))
    # It was not made, as somebody else came first.
    other = before.changed(b"other", OTHER)
    assert change(other) is other
    assert isinstance(change.outcome, Refused)
    assert change.outcome.error.actual == 4


def test_a_delete_that_was_made_is_not_made_again() -> None:
    before = versions(1)
    change = KeyChange("key", None, None, MINE)
    gone = change(before)
    again = gone.changed(b"again", OTHER)

    assert change(again) is again
    assert change.outcome == Made(Version(2))
    nothing = KeyChange("key", None, DoesNotExist(), MINE)
    assert nothing(gone) is gone
    assert nothing.outcome == Made(Version(2))


@pytest.mark.parametrize("others", [1, WRITERS_MAX - 1, WRITERS_MAX])
def test_a_change_finds_itself_below_those_of_others_as_long_as_it_is_remembered(
    others: int,
) -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store, other = servers.store(), servers.store("other")
        first = await store.put("key", b"1")
        again = lose_acceptances(servers, servers.names)
        put = asyncio.ensure_future(store.put("key", b"2", MatchesVersion(first)))
        await servers.loop.pause(100 * MS)
        again()
        for name in servers.names:
            servers.network.cuts["client", name] = None
        for number in range(others):
            await other.put("key", b"other %d" % number)
        servers.network.cuts.clear()

        if others < WRITERS_MAX:
            assert await put == first + 1
        else:
            with pytest.raises(OutcomeUnknownError, match="read the key"):
                await put
        held = await store.get("key")
        assert held == VersionedValue(Version(first + 1 + others), b"other %d" % (others - 1))

    simulate(scenario)


# Rounds ------------------------------------------------------------------------------------------

IDS = [bytes((number,)) * 16 for number in (1, 2, 3)]
LIST = Configuration(4, "cluster", tuple(Member(each, each.hex(), each.hex()) for each in IDS))


def ballot(number: int) -> Ballot:
    """A ballot."""
    return make_ballot(number, MINE * 2)


def held(promised: Ballot, accepted: Ballot, register: Register) -> m.Held:
    """What a server says."""
    return m.Held(promised, accepted, encode_register(register))


def test_a_quick_read_needs_a_quorum_that_agrees_and_has_promised_nothing() -> None:
    one, two = versions(1), versions(2)
    quiet = held(ballot(1), ballot(1), one)

    for second, expected in (
        (quiet, Chosen(one, ballot(1))),
        (held(ballot(2), ballot(1), one), Undecided()),
        (held(ballot(2), ballot(2), two), Undecided()),
        (held(BEFORE_ALL_BALLOTS, BEFORE_ALL_BALLOTS, UNTOUCHED), Undecided()),
    ):
        round_ = ReadRound(LIST, b"uk")
        assert round_.request == m.Read(4, b"uk")
        assert round_.take(IDS[0], quiet) is None
        # The same server twice is one server.
        assert round_.take(IDS[0], quiet) is None
        assert round_.take(IDS[1], second) == expected


def test_a_full_round_takes_the_latest_state_and_asks_everybody_to_accept() -> None:
    round_ = ChangeRound(LIST, b"uk", ballot(9), lambda register: register.changed(b"y", MINE))
    expected = versions(2).changed(b"y", MINE)

    assert round_.request == m.Prepare(4, b"uk", ballot(9))
    assert round_.take(IDS[1], held(ballot(3), ballot(3), versions(2))) is None
    assert round_.take(IDS[2], held(ballot(8), ballot(2), versions(1))) == Ask(
        m.Accept(4, b"uk", ballot(9), encode_register(expected))
    )
    assert round_.take(IDS[0], m.Done()) is None
    assert round_.take(IDS[0], m.Done()) is None
    assert round_.take(IDS[2], m.Done()) == Chosen(expected, ballot(9))


def test_a_round_is_lost_when_no_quorum_is_left_and_knows_the_ballot_to_beat() -> None:
    round_ = ChangeRound(LIST, b"uk", ballot(1), lambda register: register)
    assert round_.take(IDS[0], m.Beaten(ballot(7))) is None
    assert round_.take(IDS[0], m.Beaten(ballot(6))) is None
    assert round_.lose(IDS[1]) == Lost(ballot(7))

    second_half = ChangeRound(LIST, b"uk", ballot(1), lambda register: register)
    untouched = held(BEFORE_ALL_BALLOTS, BEFORE_ALL_BALLOTS, UNTOUCHED)
    assert second_half.take(IDS[0], m.Beaten(ballot(7))) is None
    assert second_half.take(IDS[1], untouched) is None
    assert isinstance(second_half.take(IDS[2], untouched), Ask)
    # Promises that come late are no acceptances.
    assert second_half.take(IDS[0], untouched) is None
    assert second_half.take(IDS[1], m.Beaten(ballot(9))) == Lost(ballot(9))


def test_a_round_ends_when_there_is_a_newer_list() -> None:
    newer = LIST.following((*LIST.members[1:],))
    round_ = ReadRound(LIST, b"uk")
    assert round_.take(IDS[0], m.Superseded(newer)) == Overtaken(newer)
    # An older list says nothing but that the server is of no use.
    assert round_.take(IDS[0], m.Superseded(Configuration(3, "cluster", LIST.members))) is None
