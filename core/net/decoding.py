"""Decoding what another process has sent: whatever is wrong with it is one error."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from ..errors import MalformedMessageError

T = TypeVar("T")


def decode_sent(
    decode: Callable[[bytes | memoryview], T],
    message: bytes | memoryview,
    complaint: str,
    remedy: str = "",
) -> T:
    """The message as a decoder of msgspec reads it. Raises MalformedMessageError.

    Args:
        complaint: what the error begins with, such as ``no replies of a log-server``.
        remedy: a sentence that it ends with, such as ``Run the same release on all nodes``.
    """
    try:
        return decode(message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # The last is for what is nested too deeply, in fields that are skipped as well.
        text = f"{complaint}: {error}"
        raise MalformedMessageError(f"{text}. {remedy}" if remedy else text) from None
