"""Registers, ballots and lists of servers: their encodings and their arithmetic."""

import itertools

import pytest

from perdure.core.errors import MalformedMessageError
from perdure.metadata import VALUE_BYTES_MAX
from perdure.metadata.quorum.configuration import (
    Configuration,
    Member,
    decode_configuration,
    encode_configuration,
    quorum_of,
)
from perdure.metadata.quorum.registers import (
    BALLOT_NUMBER_MAX,
    BEFORE_ALL_BALLOTS,
    REGISTER_BYTES_MAX,
    UNTOUCHED,
    WRITERS_MAX,
    ballot_number,
    check_ballot,
    decode_register,
    encode_register,
    has_value,
    make_ballot,
)


def nonce(number: int) -> bytes:
    """A nonce."""
    return number.to_bytes(8, "big")


def member(number: int) -> Member:
    """A server."""
    return Member(nonce(number) * 2, f"n{number}", f"n{number}:5122")


def test_a_register_has_the_layout_it_promises() -> None:
    first = UNTOUCHED.changed(b"value", nonce(7))
    gone = first.changed(None, nonce(8))

    assert encode_register(UNTOUCHED) == b"\x01\x00" + bytes(8) + b"\x00"
    assert encode_register(first) == b"\x01\x01" + bytes(7) + b"\x01\x01" + nonce(7) + b"value"
    assert encode_register(gone) == b"\x01\x02" + bytes(7) + b"\x02\x02" + nonce(8) + nonce(7)


def test_registers_come_back_from_their_encodings() -> None:
    register = UNTOUCHED
    for number in range(3 * WRITERS_MAX):
        assert decode_register(encode_register(register)) == register
        assert has_value(encode_register(register)) == (register.value is not None)
        register = register.changed(None if number % 3 == 2 else b"%d" % number, nonce(number))
    largest = register.changed(bytes(VALUE_BYTES_MAX), nonce(0))

    assert len(encode_register(largest)) == REGISTER_BYTES_MAX
    assert decode_register(encode_register(largest)) == largest


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x01\x00" + bytes(8),
        b"\x02\x00" + bytes(9),
        b"\x01\x03" + bytes(7) + b"\x01\x01" + bytes(8),
        b"\x01\x00" + bytes(7) + b"\x01\x01" + bytes(8),
        b"\x01\x01" + bytes(9),
        b"\x01\x01" + bytes(7) + b"\x01\x00",
        b"\x01\x01" + bytes(7) + b"\x01\x01" + bytes(7),
        b"\x01\x01" + bytes(7) + b"\x01\x02" + bytes(16),
        b"\x01\x02" + bytes(7) + b"\x01\x01" + bytes(8) + b"value",
        b"\x01\x00" + bytes(9) + b"value",
        bytes(REGISTER_BYTES_MAX + 1),
    ],
)
def test_what_is_no_register_is_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_register(encoded)


def test_a_register_knows_the_writers_of_its_last_versions() -> None:
    register = UNTOUCHED
    for number in range(1, 101):
        register = register.changed(b"", nonce(number))

    assert not register.knows_writer_of(100 - WRITERS_MAX)
    for version in range(100 - WRITERS_MAX + 1, 101):
        assert register.knows_writer_of(version)
        assert register.was_written_by(nonce(version), version)
        assert not register.was_written_by(nonce(0), version)
    # Nobody has made the version after the last one.
    assert register.knows_writer_of(101)
    assert not register.was_written_by(nonce(101), 101)


def test_ballots_are_ordered_by_number_and_then_by_proposer() -> None:
    ballots = [
        make_ballot(number, proposer * 16)
        for number in (1, 2, 255, 256, BALLOT_NUMBER_MAX)
        for proposer in (b"\x00", b"\x01", b"\xff")
    ]

    assert sorted(ballots) == ballots
    assert len(set(ballots)) == len(ballots)
    assert ballots[0] > BEFORE_ALL_BALLOTS
    assert [ballot_number(ballot) for ballot in ballots[::3]] == [1, 2, 255, 256, BALLOT_NUMBER_MAX]


@pytest.mark.parametrize("ballot", [b"", bytes(23), bytes(24), b"\x80" + bytes(23), b"\x01" * 25])
def test_what_nobody_may_propose_is_refused(ballot: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        check_ballot(ballot)


def test_any_two_majorities_of_neighbouring_lists_meet() -> None:
    """What the change of one server at a time rests on."""
    for count in range(1, 8):
        old = range(count)
        new = range(count + 1)
        for mine in itertools.combinations(old, quorum_of(len(old))):
            for other in itertools.combinations(new, quorum_of(len(new))):
                assert set(mine) & set(other), (mine, other)


def test_a_list_is_followed_by_one_that_differs_by_one_server() -> None:
    first = Configuration(1, "cluster", tuple(member(number) for number in (1, 2, 3)))
    grown = first.following((member(0), *first.members))

    assert grown.epoch == 2
    assert [each.id for each in grown.members] == [nonce(number) * 2 for number in (0, 1, 2, 3)]
    assert grown.previous == first.members
    assert not grown.is_settled
    assert grown.settled() == Configuration(2, "cluster", grown.members)
    assert decode_configuration(encode_configuration(grown)) == grown
    with pytest.raises(AssertionError):
        grown.following(first.members)
    with pytest.raises(AssertionError):
        first.following((member(1), member(2), member(4)))
    with pytest.raises(AssertionError):
        first.following((member(1), member(4)))


@pytest.mark.parametrize("encoded", [b"", b"\x90", b"\xc1", b"\x94\xff\xa0\x90\x90"])
def test_what_is_no_list_is_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_configuration(encoded)
