"""Instants as people write them: ISO 8601, to the nanosecond."""

import re
from datetime import UTC, datetime
from typing import Final

TIME_FORM: Final = 'an instant such as "2026-01-31T09:30:00Z", UTC unless it says otherwise'

_LAST_SECOND: Final = 253_402_300_799
_FORM: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?"
)


def parse_time_ns(text: str) -> int:
    """Nanoseconds since 1970 of an instant. Raises ValueError, whose text says what is wanted."""
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError(TIME_FORM)
    day, time, fraction, offset = form.groups()
    offset = "+00:00" if offset in (None, "Z") else offset
    try:
        instant = datetime.fromisoformat(f"{day}T{time or '00:00'}{offset}")
        seconds = int(instant.timestamp())
    except (ValueError, OverflowError):
        raise ValueError(TIME_FORM) from None
    return seconds * 10**9 + int((fraction or "0").ljust(9, "0"))


def time_text(time_ns: int) -> str:
    """An instant as ISO 8601 in UTC with nine digits after the second.

    The calendar ends with the year 9999; whatever comes later is shown as its last second.
    """
    seconds, fraction = divmod(time_ns, 10**9)
    if seconds > _LAST_SECOND:
        seconds, fraction = _LAST_SECOND, 0
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"
