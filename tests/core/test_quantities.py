"""Durations and byte sizes: parsed, printed, refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.quantities import (
    ByteSize,
    Duration,
    format_byte_size,
    format_duration,
    parse_byte_size,
    parse_duration,
)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("10s", 10_000_000_000),
        ("500ms", 500_000_000),
        ("1.5s", 1_500_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1h 30m", 5_400_000_000_000),
        (" 2 d ", 172_800_000_000_000),
        ("7us", 7_000),
        ("3ns", 3),
        ("0.1ms", 100_000),
    ],
)
def test_duration_is_parsed(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == Duration(nanoseconds)


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("512B", 512), ("64KiB", 65_536), ("1.5MiB", 1_572_864), ("2GB", 2_000_000_000)],
)
def test_byte_size_is_parsed(text: str, count: int) -> None:
    assert parse_byte_size(text) == ByteSize(count)


@pytest.mark.parametrize(
    "text", ["", " ", "5", "-1s", "s", "1x", "1s!", "!1s", "1S", "1e3s", "0.5ns", "1s 2", "1..5s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "5", "-1B", "1mib", "0.5B", "1 MiB x"])
def test_what_is_no_byte_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_byte_size(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (60_000_000_000, "60s"),
        (5_400_000_000_000, "1h30m"),
        (500_000_000, "500ms"),
        (1_500_000_000, "1s500ms"),
    ],
)
def test_duration_is_printed_shortly(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


@given(st.integers(min_value=0, max_value=10**20))
def test_duration_reads_back(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@given(st.integers(min_value=0, max_value=10**15))
def test_byte_size_reads_back(count: int) -> None:
    assert parse_byte_size(format_byte_size(count)) == count


def test_quantities_show_themselves() -> None:
    assert str(Duration(10**10)) == "10s"
    assert repr(Duration(10**10)) == "Duration('10s')"
    assert Duration(1_500_000_000).seconds == 1.5
    assert Duration(7).nanoseconds == 7
    assert str(ByteSize(32 << 20)) == "32MiB"
    assert repr(ByteSize(5)) == "ByteSize('5B')"
