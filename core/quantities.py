"""Durations and byte sizes: values that know their unit, parsed from and printed as text."""

import re
from typing import Final

NANOSECONDS_PER_SECOND: Final = 1_000_000_000

_DURATION_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": NANOSECONDS_PER_SECOND,
    "m": 60 * NANOSECONDS_PER_SECOND,
    "h": 3_600 * NANOSECONDS_PER_SECOND,
    "d": 86_400 * NANOSECONDS_PER_SECOND,
}
_BYTE_UNITS: Final = {
    "B": 1,
    "KB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_PART: Final = re.compile(r"(\d+)(?:\.(\d{1,9}))?\s*([A-Za-z]+)")

DURATION_FORM: Final = 'a duration such as "10s", "500ms" or "1h30m"'
BYTE_SIZE_FORM: Final = 'a byte size such as "32MiB", "64KiB" or "512B"'


class Duration(int):
    """A span of time, never negative, as a whole number of nanoseconds."""

    __slots__ = ()

    @property
    def nanoseconds(self) -> int:
        """The span as a plain integer of nanoseconds."""
        return int(self)

    @property
    def seconds(self) -> float:
        """The span in seconds, as event loops take it."""
        return int(self) / NANOSECONDS_PER_SECOND

    def __str__(self) -> str:
        """The shortest text that `parse_duration` reads back as the same span."""
        return format_duration(self)

    def __repr__(self) -> str:
        """A text for debugging, such as ``Duration('10s')``."""
        return f"Duration({format_duration(self)!r})"


class ByteSize(int):
    """A number of bytes, never negative."""

    __slots__ = ()

    def __str__(self) -> str:
        """The shortest text that `parse_byte_size` reads back as the same number."""
        return format_byte_size(self)

    def __repr__(self) -> str:
        """A text for debugging, such as ``ByteSize('32MiB')``."""
        return f"ByteSize({format_byte_size(self)!r})"


def parse_duration(text: str) -> Duration:
    """Read one or more parts with a unit of ns, us, ms, s, m, h or d; "0" needs none.

    Raises ValueError, whose text says what is wanted.
    """
    return Duration(_parse(text, _DURATION_UNITS, DURATION_FORM))


def parse_byte_size(text: str) -> ByteSize:
    """Read a number with a unit of B, KB, MB, GB, KiB, MiB or GiB; "0" needs none.

    Raises ValueError, whose text says what is wanted.
    """
    return ByteSize(_parse(text, _BYTE_UNITS, BYTE_SIZE_FORM))


def format_duration(nanoseconds: int) -> str:
    """The shortest exact text: parts from days down to nanoseconds, such as ``1h30m``."""
    assert nanoseconds >= 0, nanoseconds
    if nanoseconds == 0:
        return "0s"
    # Ninety seconds read better as 90s than as 1m30s, and 60s is what people write.
    if nanoseconds % NANOSECONDS_PER_SECOND == 0 and nanoseconds <= 120 * NANOSECONDS_PER_SECOND:
        return f"{nanoseconds // NANOSECONDS_PER_SECOND}s"
    parts: list[str] = []
    rest = nanoseconds
    for unit, size in sorted(_DURATION_UNITS.items(), key=lambda item: -item[1]):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def format_byte_size(count: int) -> str:
    """The largest binary unit that divides `count` exactly, such as ``32MiB``."""
    assert count >= 0, count
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % _BYTE_UNITS[unit] == 0:
            return f"{count // _BYTE_UNITS[unit]}{unit}"
    # A ByteSize prints itself through here: as a plain number it does not come back.
    return f"{int(count)}B"


def _parse(text: str, units: dict[str, int], form: str) -> int:
    """Sum the parts of `text` in integer arithmetic: fractions of a unit must come out whole."""
    stripped = text.strip()
    if stripped == "0":
        return 0
    total = 0
    end = 0
    for part in _PART.finditer(stripped):
        size = units.get(part[3])
        if size is None or stripped[end : part.start()].strip():
            break
        end = part.end()
        fraction = part[2] or ""
        whole, rest = divmod(int(part[1] + fraction) * size, 10 ** len(fraction))
        if rest:
            raise ValueError(f"{text!r} is finer than the smallest unit")
        total += whole
    if not stripped or end != len(stripped):
        raise ValueError(f"{text!r} is not {form}")
    return total
