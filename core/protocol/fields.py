"""Parts of protobuf messages, written by hand where bytes must be the same or writing be fast."""

from typing import Final

_ONE_BYTE: Final = tuple(bytes((number,)) for number in range(128))


def varint(number: int) -> bytes:
    """A non-negative integer as protobuf writes it."""
    if number < 128:
        return _ONE_BYTE[number]
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def field(tag: bytes, content: bytes) -> bytes:
    """A field with a length: bytes, a text in UTF-8 or a message."""
    return tag + varint(len(content)) + content
