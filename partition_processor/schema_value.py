"""How the Schema is kept in the metadata store: JSON, so that an operator can read it."""

from typing import Final

import msgspec

from ..core.errors import StorageCorruptError
from .deployments import Schema

encode_schema: Final = msgspec.json.Encoder().encode
_decoder: Final = msgspec.json.Decoder(Schema)


def decode_schema(value: bytes) -> Schema:
    """The schema of a metadata value. Raises StorageCorruptError."""
    try:
        return _decoder.decode(value)
    except msgspec.MsgspecError as error:
        raise StorageCorruptError(
            f"the metadata value 'schema' does not decode: {error}; restore the metadata directory"
        ) from None
