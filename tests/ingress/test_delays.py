"""The delays that clients may write."""

import pytest

from perdure.ingress.errors import BadRequestError
from perdure.ingress.http.delays import parse_delay

MS = 1_000_000
SECOND = 1_000 * MS
HOUR = 3_600 * SECOND
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("text", "delay_ns"),
    [
        ("0", 0),
        ("250", 250 * MS),
        ("1s", SECOND),
        ("1000ms", SECOND),
        ("100 ms", 100 * MS),
        ("1h30m", 5_400 * SECOND),
        ("1h 30m", 5_400 * SECOND),
        ("1 hour, 30 minutes", 5_400 * SECOND),
        ("2 days", 2 * DAY),
        ("1 Week", 7 * DAY),
        ("1.5s", 1_500 * MS),
        ("0s", 0),
        ("5 µs", 5_000),
        ("7ns", 7),
        ("PT1.5S", 1_500 * MS),
        ("PT0S", 0),
        ("PT1H30M", 5_400 * SECOND),
        ("P2D", 2 * DAY),
        ("P1W", 7 * DAY),
        ("P1DT12H", 36 * HOUR),
        ("pt1s", SECOND),
    ],
)
def test_delay_is_understood(text: str, delay_ns: int) -> None:
    assert parse_delay(text) == delay_ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "P",
        "PT",
        "P1",
        "PT1",
        "P1Y",
        "P1M",
        "PT1D",
        "-1",
        "-1s",
        "1.5",
        "1s ago",
        "1 fortnight",
        "s",
        "1s1",
        "1,,s",
        "1e3s",
        "\N{ARABIC-INDIC DIGIT THREE}s",
        "9" * 30,
        "1s;2s",
    ],
)
def test_delay_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadRequestError, match="delay"):
        parse_delay(text)
