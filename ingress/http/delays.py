"""The ``delay`` of a send as clients write it: ISO 8601, units in words, or milliseconds."""

import re
from typing import Final

from ..errors import BadRequestError

_SECOND: Final = 10**9
_DAY: Final = 24 * 3600 * _SECOND
_DIGITS_MAX: Final = 20
_UNITS: Final[dict[str, int]] = {
    name: size
    for size, names in (
        (7 * _DAY, "weeks week wks wk w"),
        (_DAY, "days day d"),
        (3600 * _SECOND, "hours hour hrs hr h"),
        (60 * _SECOND, "minutes minute mins min m"),
        (_SECOND, "seconds second secs sec s"),
        (1_000_000, "milliseconds millisecond millis milli msecs msec ms"),
        (1_000, "microseconds microsecond micros micro usecs usec us \N{MICRO SIGN}s \u03bcs"),
        (1, "nanoseconds nanosecond nanos nano nsecs nsec ns"),
    )
    for name in names.split()
}
_ISO_DATE_UNITS: Final = {"W": 7 * _DAY, "D": _DAY}
_ISO_TIME_UNITS: Final = {"H": 3600 * _SECOND, "M": 60 * _SECOND, "S": _SECOND}
_NUMBER: Final = rf"([0-9]{{1,{_DIGITS_MAX}}})(?:[.,]([0-9]{{1,9}}))?"
_milliseconds: Final = re.compile(rf"[0-9]{{1,{_DIGITS_MAX}}}").fullmatch
_iso: Final = re.compile(r"P([^T]*)(?:T(.+))?", re.IGNORECASE).fullmatch
_iso_part: Final = re.compile(_NUMBER + r"([A-Za-z])")
_part: Final = re.compile(_NUMBER + r"\s*([a-z\u00b5\u03bc]+)\s*,?\s*")


def parse_delay(text: str) -> int:
    """The delay in nanoseconds. Raises BadRequestError."""
    stripped = text.strip()
    if _milliseconds(stripped):
        return int(stripped) * 1_000_000
    iso = _iso(stripped)
    if iso is None:
        total = _sum(stripped.lower(), _part, _UNITS)
    elif iso[1] or iso[2]:
        date = _sum(iso[1].upper(), _iso_part, _ISO_DATE_UNITS) if iso[1] else 0
        time = _sum(iso[2].upper(), _iso_part, _ISO_TIME_UNITS) if iso[2] else 0
        total = None if date is None or time is None else date + time
    else:
        total = None
    if total is None:
        raise BadRequestError(
            f"delay {text[:64]!r} is not understood: give an ISO 8601 duration without years and "
            "months (PT1M30S, P2D), units in words (100ms, 1h30m, 2 days) or a whole number of "
            "milliseconds"
        )
    return total


def _sum(text: str, part: re.Pattern[str], units: dict[str, int]) -> int | None:
    """The sum of the parts, in integers; None unless they make up the whole text."""
    total = position = 0
    while position < len(text):
        found = part.match(text, position)
        if found is None or found[3] not in units:
            return None
        fraction = found[2] or ""
        total += int(found[1] + fraction) * units[found[3]] // 10 ** len(fraction)
        position = found.end()
    return total if text else None
