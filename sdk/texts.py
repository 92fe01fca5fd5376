"""Texts for the wire: whatever a user raises becomes words that protobuf takes, of bounded length.

A text with a lone surrogate, as file names bring them, has no UTF-8 form; protobuf refuses it.
Nothing here raises, because all of it runs where an exception is being reported already.
"""

import traceback
from typing import Final

from ..core.errors import PerdureError
from .errors import RetryableError

CODE_INTERNAL: Final = 500
CODE_MAX: Final = 2**32 - 1
MESSAGE_BYTES_MAX: Final = 8 * 1024
STACKTRACE_BYTES_MAX: Final = 64 * 1024

_ENCODING: Final = ("utf-8", "backslashreplace")


def encode_text(text: str) -> bytes:
    """The text as UTF-8, with lone surrogates written as escapes."""
    return text.encode(*_ENCODING)


def clean_text(text: object) -> str:
    """The text, or the words for what is none, with lone surrogates written as escapes."""
    return encode_text(_words_of(text)).decode()


def message_text(text: object) -> str:
    """As `clean_text`, cut after 8 KiB."""
    head = encode_text(_words_of(text)[:MESSAGE_BYTES_MAX])
    return head[:MESSAGE_BYTES_MAX].decode(errors="ignore")


def stacktrace_text(text: object) -> str:
    """As `clean_text`, the last 64 KiB."""
    tail = encode_text(_words_of(text)[-STACKTRACE_BYTES_MAX:])
    return tail[-STACKTRACE_BYTES_MAX:].decode(errors="ignore")


def short_text(text: object) -> str:
    """The beginning of a name, quoted, for messages."""
    words = _words_of(text)
    return repr(words[:100] + "…" if len(words) > 100 else words)


def message_of(error: BaseException) -> str:
    """What an exception says, cut after 8 KiB."""
    try:
        if isinstance(error, PerdureError):
            return message_text(f"[{error.code}] {error.message}")
        return message_text(error.message if isinstance(error, RetryableError) else repr(error))
    except Exception as unspeakable:
        return message_text(_stand_in(error, unspeakable))


def sentence_of(error: BaseException) -> str:
    """What an exception says without its type, where it says anything; cut after 8 KiB."""
    try:
        return message_text(str(error)) or message_of(error)
    except Exception as unspeakable:
        return message_text(_stand_in(error, unspeakable))


def stacktrace_of(error: BaseException) -> str:
    """The last 64 KiB of an exception's stack trace."""
    try:
        return stacktrace_text("".join(traceback.format_exception(error)))
    except Exception as unspeakable:
        return stacktrace_text(_stand_in(error, unspeakable))


def status_code_of(code: object) -> int:
    """The code, 500 for one that has no place in 32 bits."""
    return int(code) if isinstance(code, int) and 0 <= code <= CODE_MAX else CODE_INTERNAL


def _words_of(text: object) -> str:
    if isinstance(text, str):
        return text
    try:
        return str(text)
    except Exception as unspeakable:
        return _stand_in(text, unspeakable)


def _stand_in(what: object, unspeakable: Exception) -> str:
    return f"{type(what).__name__} (showing it raises {type(unspeakable).__name__})"
