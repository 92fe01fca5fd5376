"""The checker of histories accepts what could have happened and nothing else."""

import itertools
import random
from collections.abc import Sequence

import pytest

from perdure.metadata import DoesNotExist, MatchesVersion, Version

from ..linearizability import (
    CasRegister,
    Conflict,
    Held,
    NotLinearizableError,
    Operation,
    Read,
    UndecidedError,
    Write,
    Written,
    linearize,
)
from .register import (
    Call,
    Delete,
    Deleted,
    Found,
    Get,
    Listed,
    Look,
    Missing,
    Put,
    Refused,
    Result,
    Stored,
    VersionedRegister,
)

Row = tuple[int, int | None, Call, Result | None]
"""called_at, returned_at, call, result; each row is a client of its own."""

FIRST = MatchesVersion(Version(1))


def of_rows(rows: Sequence[Row]) -> list[Operation[Call, Result]]:
    """The rows as operations."""
    return [
        Operation(f"client {number}", call, result, called_at, returned_at)
        for number, (called_at, returned_at, call, result) in enumerate(rows)
    ]


LINEARIZABLE: dict[str, list[Row]] = {
    "nothing happened": [],
    "one after the other": [
        (0, 1, Get(), Missing()),
        (2, 3, Put(b"a", DoesNotExist()), Stored(1)),
        (4, 5, Get(), Found(1, b"a")),
        (6, 7, Put(b"b", FIRST), Stored(2)),
        (8, 9, Put(b"c", FIRST), Refused(2)),
        (10, 11, Delete(MatchesVersion(Version(2))), Deleted()),
        (12, 13, Put(b"c", FIRST), Refused(None)),
        (14, 15, Delete(), Deleted()),
        (16, 17, Look(), Listed(False)),
        (18, 19, Put(b"d"), Stored(3)),
        (20, 21, Look(), Listed(True)),
    ],
    "versions may leave numbers out": [
        (0, 1, Put(b"a"), Stored(5)),
        (2, 3, Put(b"b"), Stored(90)),
    ],
    "a read beside a put sees the old value": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 7, Put(b"b"), Stored(2)),
        (3, 4, Get(), Found(1, b"a")),
        (5, 6, Get(), Found(2, b"b")),
    ],
    "puts beside each other take effect against the order of their calls": [
        (0, 5, Put(b"a"), Stored(2)),
        (1, 4, Put(b"b"), Stored(1)),
        (6, 7, Get(), Found(2, b"a")),
    ],
    "one of two who expect the same wins": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 5, Put(b"same", FIRST), Stored(2)),
        (3, 4, Put(b"same", FIRST), Refused(2)),
    ],
    "a put without an answer took no effect": [
        (0, 1, Put(b"a"), None),
        (2, 3, Get(), Missing()),
        (4, 5, Put(b"b", DoesNotExist()), Stored(1)),
    ],
    "a put without an answer took effect, at a version nobody knew": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 3, Put(b"b"), None),
        (4, 5, Put(b"c", FIRST), Refused(7)),
        (6, 7, Get(), Found(7, b"b")),
    ],
    "a put that never returned takes effect late": [
        (0, None, Put(b"a"), None),
        (1, 2, Get(), Missing()),
        (3, 4, Get(), Found(1, b"a")),
    ],
    "a put that was cut off hides behind the next one": [
        (0, 1, Put(b"a"), None),
        (2, 3, Put(b"b"), None),
        (4, 5, Get(), Found(2, b"b")),
    ],
    "a delete without an answer took effect": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 3, Delete(FIRST), None),
        (4, 5, Get(), Missing()),
        (6, 7, Put(b"b"), Stored(2)),
    ],
}

NOT_LINEARIZABLE: dict[str, list[Row]] = {
    "a stale read": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 3, Put(b"b"), Stored(2)),
        (4, 5, Get(), Found(1, b"a")),
    ],
    "a read that goes back in time beside a put": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 7, Put(b"b"), Stored(2)),
        (3, 4, Get(), Found(2, b"b")),
        (5, 6, Get(), Found(1, b"a")),
    ],
    "a lost update": [
        (0, 1, Put(b"0"), Stored(1)),
        (2, 3, Put(b"1", FIRST), Stored(2)),
        (4, 5, Get(), Found(1, b"0")),
        (6, 7, Put(b"1", FIRST), Stored(3)),
    ],
    "a put that was answered and is gone": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 3, Get(), Missing()),
    ],
    "a put that was answered and is not listed": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 3, Look(), Listed(False)),
    ],
    "a deleted key that is listed": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 3, Delete(), Deleted()),
        (4, 5, Look(), Listed(True)),
    ],
    "a version that comes back after a delete": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 3, Delete(), Deleted()),
        (4, 5, Put(b"b", DoesNotExist()), Stored(1)),
    ],
    "a version that comes back after a put that nobody answered": [
        (0, 1, Put(b"a"), None),
        (2, 3, Get(), Found(3, b"a")),
        (4, 5, Delete(), None),
        (6, 7, Put(b"b", DoesNotExist()), Stored(3)),
    ],
    "two winners of the same compare-and-set": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 5, Put(b"same", FIRST), Stored(2)),
        (3, 4, Put(b"same", FIRST), Stored(3)),
    ],
    "two winners of the same version": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 5, Put(b"same", FIRST), Stored(2)),
        (3, 4, Put(b"same", FIRST), Stored(2)),
    ],
    "two who put where nothing was": [
        (0, 3, Put(b"same", DoesNotExist()), Stored(1)),
        (1, 2, Put(b"same", DoesNotExist()), Stored(2)),
    ],
    "a refusal without a reason": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 3, Put(b"b", FIRST), Refused(1)),
    ],
    "a refusal by a version from the future": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 3, Put(b"b", FIRST), Refused(2)),
        (4, 5, Put(b"c"), Stored(2)),
    ],
    "a refusal of a change that expects nothing": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 3, Put(b"b"), Refused(1)),
    ],
    "a change that was refused and made": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 3, Delete(DoesNotExist()), Refused(1)),
        (4, 5, Get(), Missing()),
    ],
    "a put that had ended takes effect late": [
        (0, 1, Put(b"a"), None),
        (2, 3, Get(), Missing()),
        (4, 5, Get(), Found(1, b"a")),
    ],
    "a put without an answer whose precondition never held": [
        (0, None, Put(b"a", FIRST), None),
        (1, 2, Get(), Found(2, b"a")),
    ],
    "a value nobody put": [(0, 1, Get(), Found(1, b"a"))],
    "a value of another version": [
        (0, 1, Put(b"a"), Stored(1)),
        (2, 3, Put(b"b"), Stored(2)),
        (4, 5, Get(), Found(2, b"a")),
    ],
}


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_a_history_that_could_have_happened_is_accepted(name: str) -> None:
    history = of_rows(LINEARIZABLE[name])
    order = linearize(VersionedRegister(), reversed(history))

    assert [each for each in order if each.result is not None] or not history
    assert {str(each) for each in history if each.result is not None} <= set(map(str, order))


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_a_history_that_could_not_have_happened_is_refused(name: str) -> None:
    with pytest.raises(NotLinearizableError, match="seed 7: no order"):
        linearize(VersionedRegister(), of_rows(NOT_LINEARIZABLE[name]), note="seed 7")


def test_a_refusal_shows_where_the_history_breaks() -> None:
    with pytest.raises(NotLinearizableError) as refused:
        linearize(VersionedRegister(), of_rows(NOT_LINEARIZABLE["a stale read"]), note="seed 7")
    _, nearest = str(refused.value).split("the longest order ends in ")
    order, stuck = nearest.split("and none of these can be next:")

    assert "client 0" in order
    assert "client 1" in order
    assert "client 2" not in order
    assert "client 2: Get() -> Found(version=1, value=b'a')" in stuck


def test_a_search_has_a_bound() -> None:
    puts: list[Row] = [(number, None, Put(b"%d" % number), None) for number in range(20)]
    with pytest.raises(UndecidedError, match="seed 7"):
        linearize(
            VersionedRegister(),
            of_rows([*puts, (50, 51, Get(), Found(1, b"never put"))]),
            note="seed 7",
            configurations_max=1000,
        )


def test_an_operation_without_a_return_has_no_result() -> None:
    with pytest.raises(AssertionError, match="comes with a return"):
        Operation("client", Get(), Missing(), 0, None)
    with pytest.raises(AssertionError):
        Operation("client", Get(), Missing(), 1, 1)


RegisterRow = tuple[int, int | None, Write | Read, Written | Conflict | Held | None]
RegisterOperation = Operation[Write | Read, Written | Conflict | Held]


def of_register_rows(rows: Sequence[RegisterRow]) -> list[RegisterOperation]:
    """The rows as operations."""
    return [
        Operation(f"client {number}", call, result, called_at, returned_at)
        for number, (called_at, returned_at, call, result) in enumerate(rows)
    ]


@pytest.mark.parametrize(
    "rows",
    [
        # Conflicts name a version that was reached, not always the last one.
        [
            (0, 1, Write("a", 0), Written(10)),
            (2, 3, Write("b", 10), Written(20)),
            (4, 5, Write("c", 0), Conflict(10)),
            (6, 7, Write("c", 10), Conflict(20)),
            (8, 9, Read(), Held(20, "b")),
        ],
        # A writer that has read past the last write may write.
        [
            (0, 1, Write("a"), Written(10)),
            (2, 3, Write("b", 15, or_older=True), Written(16)),
            (4, 5, Write("c", 15, or_older=True), Conflict(16)),
        ],
        # The writer whose answer was lost meets its own write.
        [
            (0, 1, Write("a", 0, or_older=True), None),
            (2, 3, Write("a", 0, or_older=True), Conflict(12)),
            (4, 5, Read(), Held(12, "a")),
        ],
        # A write without an answer, seen by what only writes behind it.
        [
            (0, 1, Write("a", 0), None),
            (2, 3, Write("b", 4), Written(5)),
        ],
        [(0, 1, Write("a", 3), Conflict(0))],
    ],
)
def test_a_register_that_keeps_its_promise_is_accepted(rows: list[RegisterRow]) -> None:
    order = linearize(CasRegister(), of_register_rows(rows))

    assert len(order) == len(rows)


@pytest.mark.parametrize(
    "rows",
    [
        # Two winners.
        [
            (0, 3, Write("a", 0), Written(1)),
            (1, 2, Write("b", 0), Written(2)),
        ],
        # A conflict with a version that was not reached.
        [
            (0, 1, Write("a", 0), Written(10)),
            (2, 3, Write("b", 0), Conflict(11)),
        ],
        # A conflict with a version that breaks no condition.
        [
            (0, 1, Write("a", 0), Written(10)),
            (2, 3, Write("b", 10), Conflict(10)),
        ],
        [
            (0, 1, Write("a", 0), Written(10)),
            (2, 3, Write("b", 11, or_older=True), Conflict(10)),
        ],
        # A conflict that names what the writer knew of, though another write did come behind it.
        [
            (0, 1, Write("a", 0), Written(10)),
            (2, 3, Write("b", 10), Written(20)),
            (4, 5, Write("c", 10), Conflict(10)),
        ],
        [
            (0, 1, Write("a", 0), Written(10)),
            (2, 3, Write("b", 10), Written(20)),
            (4, 5, Write("c", 15, or_older=True), Conflict(12)),
        ],
        # A write behind a version that the writer had not read up to.
        [
            (0, 1, Write("a"), Written(10)),
            (2, 3, Write("b", 9, or_older=True), Written(11)),
        ],
        # A version that comes back.
        [
            (0, 1, Write("a"), Written(10)),
            (2, 3, Write("b"), Written(10)),
        ],
        # A refused write that is there all the same.
        [
            (0, 1, Write("a", 0), Written(10)),
            (2, 3, Write("b", 0), Conflict(10)),
            (4, 5, Read(), Held(11, "b")),
        ],
        # An acknowledged write that is lost.
        [
            (0, 1, Write("a", 0), Written(10)),
            (2, 3, Read(), Held(0, None)),
        ],
    ],
)
def test_a_register_that_breaks_its_promise_is_refused(rows: list[RegisterRow]) -> None:
    with pytest.raises(NotLinearizableError):
        linearize(CasRegister(), of_register_rows(rows))


def drawn_history(draw: random.Random) -> list[RegisterOperation]:
    """A few operations that overlap, with answers that are right about half the time."""
    count = draw.randint(1, 5)
    instants = draw.sample(range(100), 2 * count)
    rows: list[RegisterRow] = []
    for number in range(count):
        called_at, returned_at = sorted(instants[2 * number : 2 * number + 2])
        version = draw.randint(0, 3)
        call: Write | Read = Read()
        result: Written | Conflict | Held = Held(version, draw.choice("ab") if version else None)
        if draw.random() < 0.7:
            call = Write(draw.choice("ab"), draw.choice([None, 0, 1]), draw.random() < 0.5)
            result = Conflict(version)
            if call.expected is None or draw.random() < 0.7:
                result = Written(version)
        kind = draw.random()
        if kind < 0.15:
            rows.append((called_at, None, call, None))
        elif kind < 0.3:
            rows.append((called_at, returned_at, call, None))
        else:
            rows.append((called_at, returned_at, call, result))
    return of_register_rows(rows)


def has_an_order(history: list[RegisterOperation]) -> bool:
    """The dumb twin of `linearize`: try every order of every choice of effects."""
    model = CasRegister()
    open_ended = [each for each in history if each.result is None]
    answered = [each for each in history if each.result is not None]
    for count in range(len(open_ended) + 1):
        for effective in itertools.combinations(open_ended, count):
            for order in itertools.permutations([*answered, *effective]):
                if any(
                    later.returned_at is not None and later.returned_at < earlier.called_at
                    for earlier, later in itertools.combinations(order, 2)
                ):
                    continue
                states = [model.initial()]
                for each in order:
                    states = [
                        after
                        for state in states
                        for after in model.after(state, each.call, each.result)
                    ]
                if states:
                    return True
    return False


def test_the_search_agrees_with_trying_every_order() -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(2000):
        history = drawn_history(random.Random(seed))
        expected = has_an_order(history)
        verdicts[expected] += 1
        try:
            linearize(CasRegister(), history)
        except NotLinearizableError:
            assert not expected, f"seed {seed}"
        else:
            assert expected, f"seed {seed}"

    assert min(verdicts.values()) > 200, verdicts
