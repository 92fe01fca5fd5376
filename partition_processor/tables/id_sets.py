"""Sets of small numbers as bits in bytes: which completions an invocation waits for, or has.

Bit n of the bytes, read as one little-endian number, stands for n. Numbers are completion ids,
given out in order from 1, so the sets are dense; `ID_MAX` bounds what a worker can make of them.
"""

from typing import Final

ID_MAX: Final = 1_000_000
"""The largest completion id that is taken from code: 125 kB of set."""


def contains(bits: bytes, number: int) -> bool:
    """Whether the number is in the set."""
    index = number >> 3
    return index < len(bits) and bool(bits[index] >> (number & 7) & 1)


def with_number(bits: bytes, number: int) -> bytes:
    """The set with the number in it."""
    index = number >> 3
    grown = bytearray(bits)
    if index >= len(grown):
        grown.extend(bytes(index + 1 - len(grown)))
    grown[index] |= 1 << (number & 7)
    return bytes(grown)
