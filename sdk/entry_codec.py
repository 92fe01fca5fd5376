"""The form of codecs for journal values; this release takes none.

The names are here so that modules which define one can be imported; giving one to `app` or
`create_client` raises UnsupportedOptionError.
"""

import abc
from collections.abc import Awaitable, Callable


class JournalValueCodec(abc.ABC):
    """Changes values on their way into the journal and back, such as by encryption."""

    @abc.abstractmethod
    def encode(self, buf: bytes) -> bytes:
        """The bytes to keep for a value's bytes."""

    @abc.abstractmethod
    async def decode(self, buf: bytes) -> bytes:
        """The value's bytes for those that were kept."""


JournalValueCodecProvider = Callable[[], Awaitable[JournalValueCodec]]
"""Makes a codec when a worker starts."""
