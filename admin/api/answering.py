"""What an answer, or an error, is on the wire."""

from typing import Final

import msgspec

from ...core.errors import PerdureError
from ..elsewhere import Forwarded
from ..errors import http_status

_encoder: Final = msgspec.json.Encoder()


def answer_of(shown: object) -> Forwarded:
    """What a resource shows; what another node has shown stays as it is."""
    return shown if isinstance(shown, Forwarded) else Forwarded(200, _encoder.encode(shown))


def answer_error(error: PerdureError) -> Forwarded:
    """An error with its code and sentence."""
    body = _encoder.encode({"message": error.message, "code": error.code})
    return Forwarded(http_status(error), body)
