"""The Input command that an invocation's journal starts with: headers and body of the request."""

from typing import Final

from ..core.protocol import messages
from ..core.protocol.fields import field

INGRESS_PATH: Final = "x-restate-ingress-path"
"""The first header of what came over HTTP: its path and query, as received."""


class EncodedHeaders:
    """The headers part of INPUT commands, remembered: clients repeat themselves."""

    ENTRIES_MAX: Final = 1024
    ENTRY_BYTES_MAX: Final = 2048

    def __init__(self) -> None:
        """Start empty."""
        self._known: dict[tuple[tuple[str, str], ...], bytes] = {}

    def encode(self, headers: tuple[tuple[str, str], ...]) -> bytes:
        """An INPUT command with these headers and nothing else, encoded."""
        # The path is a new one for each key.
        own = 1 if headers and headers[0][0] == INGRESS_PATH else 0
        rest = headers[own:]
        encoded = self._known.get(rest)
        if encoded is None:
            encoded = _encode_headers(rest)
            if len(encoded) <= self.ENTRY_BYTES_MAX:
                if len(self._known) >= self.ENTRIES_MAX:
                    self._known.clear()
                self._known[rest] = encoded
        return _encode_headers(headers[:1]) + encoded if own else encoded


# Fields of InputCommand, Header and Value. By hand it takes half the time, and this is per call.
_HEADERS: Final = b"\x0a"
_HEADER_KEY: Final = b"\x0a"
_HEADER_VALUE: Final = b"\x12"
_VALUE: Final = b"\x72"
_VALUE_CONTENT: Final = b"\x0a"


def _encode_headers(headers: tuple[tuple[str, str], ...]) -> bytes:
    parts: list[bytes] = []
    for key, value in headers:
        header = b""
        if key:
            header = field(_HEADER_KEY, key.encode())
        if value:
            header += field(_HEADER_VALUE, value.encode())
        parts.append(field(_HEADERS, header))
    return b"".join(parts)


def input_frame(headers: bytes, body: bytes) -> bytes:
    """The INPUT command as a frame; `headers` are from `EncodedHeaders.encode`.

    Encoded messages of one type may be joined end to end: that is how protobuf merges them.
    """
    content = field(_VALUE_CONTENT, body) if body else b""
    return messages.frame(messages.INPUT_COMMAND, headers + field(_VALUE, content))
