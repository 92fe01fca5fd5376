"""Metadata values that carry a format: told apart from those of a newer release when read."""

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from ..core.errors import StorageCorruptError, StorageFormatError

T = TypeVar("T")


class _Format(msgspec.Struct, frozen=True):
    format: int


_decode_format: Final = msgspec.json.Decoder(_Format).decode


def decode_value(
    key: str, value: bytes, decode: Callable[[bytes], T], *, format_max: int, way_out: str
) -> T:
    """Read the JSON value of a metadata key.

    Args:
        decode: reads a value of the formats up to `format_max`.
        way_out: what to do about a value that does not decode.

    Raises StorageFormatError or StorageCorruptError.
    """
    try:
        # The format first: a newer release may have changed every other field.
        form = _decode_format(value).format
        if form > format_max:
            raise StorageFormatError(
                f"metadata key {key!r} is stored in format {form}, newer than this "
                f"program's {format_max}: use the release that wrote it, or a later one"
            )
        return decode(value)
    except msgspec.MsgspecError as error:
        raise StorageCorruptError(
            f"metadata key {key!r} does not decode ({error}): {way_out}"
        ) from None
