"""check_append: every limit of an append and the error that names it."""

import pytest

from perdure.log import sequencer as sequencer_module
from perdure.log.answers import NotChangedSince, Producer
from perdure.log.errors import (
    BatchTooLargeError,
    LogError,
    MalformedAppendError,
    RecordTooLargeError,
    UnguardedConditionError,
)
from perdure.log.sequencer import Append, check_append
from perdure.log.types import BATCH_RECORDS_MAX, CONDITIONS_MAX, KEYS_MAX, Record

from .admission import EVERY_KEY, A, B, C, record

P = b"p" * 16


def keys(count: int) -> tuple[bytes, ...]:
    return tuple(number.to_bytes(16, "big") for number in range(count))


def unread(*names: bytes) -> tuple[NotChangedSince, ...]:
    return tuple(NotChangedSince(name, 0) for name in names)


@pytest.mark.parametrize(
    "append",
    [
        Append([record()]),
        Append([EVERY_KEY]),
        Append([record()] * BATCH_RECORDS_MAX),
        Append([record(*keys(KEYS_MAX))]),
        Append([record(*keys(KEYS_MAX))], unread(*keys(CONDITIONS_MAX))),
        Append([record()], producer=Producer(P, 1, 1)),
    ],
)
def test_an_append_at_its_limits_passes(append: Append) -> None:
    """Each limit is inclusive."""
    check_append(append)
    assert append.records


@pytest.mark.parametrize(
    ("append", "says"),
    [
        (Append([]), "0 records"),
        (Append([record()] * (BATCH_RECORDS_MAX + 1)), f"{BATCH_RECORDS_MAX + 1} records"),
        (Append([record(*keys(KEYS_MAX + 1))]), f"{KEYS_MAX + 1} keys"),
        (Append([record(A, b"short")]), "a key of 5 bytes"),
        (Append([record(A)], unread(A, b"short")), "a key of 5 bytes"),
        (Append([record(A)], unread(*keys(CONDITIONS_MAX), A)), f"{CONDITIONS_MAX + 1} conditions"),
        (Append([record()], producer=Producer(b"short", 1, 1)), "an id of 5 bytes"),
        (Append([record()], producer=Producer(P, 0, 1)), "epoch 0"),
        (Append([record()], producer=Producer(P, 1, 0)), "sequence 0"),
    ],
)
def test_a_malformed_append_is_named(append: Append, says: str) -> None:
    """With the number that is wrong."""
    with pytest.raises(MalformedAppendError, match=says):
        check_append(append)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer_module, "RECORD_BYTES_MAX", 100)
    monkeypatch.setattr(sequencer_module, "BATCH_BYTES_MAX", 60)


def sized(*sizes: int) -> Append:
    return Append([Record(1, bytes(size), (), 1, None, 0) for size in sizes])


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(
    ("append", "error"),
    [
        (sized(60), None),
        (sized(30, 30), None),
        # One longer record makes a batch of its own.
        (sized(100), None),
        (sized(101), RecordTooLargeError),
        (sized(30, 31), BatchTooLargeError),
        (sized(100, 0), BatchTooLargeError),
    ],
)
def test_sizes_have_limits(append: Append, error: type[LogError] | None) -> None:
    """Of a record and of all together."""
    if error is None:
        check_append(append)
    else:
        with pytest.raises(error):
            check_append(append)

    assert error is None or issubclass(error, LogError)


@pytest.mark.parametrize(
    ("append", "guarded"),
    [
        (Append([record(A)], unread(A)), True),
        (Append([record(B)], unread(A, B)), True),
        (Append([record(C), record(A)], unread(A)), True),
        (Append([record(C), EVERY_KEY], unread(A)), True),
        (Append([record(B)], unread(A), producer=Producer(P, 1, 1)), True),
        (Append([record(B)]), True),
        (Append([record(B)], unread(A)), False),
        (Append([record(), record(B, C)], unread(A)), False),
    ],
)
def test_a_condition_has_to_be_guarded(append: Append, guarded: bool) -> None:
    """By writing one of its keys or by a producer's number; else a copy would be admitted."""
    if guarded:
        check_append(append)
    else:
        with pytest.raises(UnguardedConditionError):
            check_append(append)

    # The rule is about copies: a guarded one without a producer touches a key of its conditions.
    touched = {key for item in append.records for key in item.keys or ()}
    every = any(item.keys is None for item in append.records)
    named = {condition.key for condition in append.conditions}
    assert guarded == bool(every or touched & named or append.producer or not named)
