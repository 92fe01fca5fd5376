"""The promises table: what workflows and their handlers tell each other, once per name."""

from typing import Final

import msgspec

from .invocations import Failure, Sink


class Promise(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One promise of one workflow key.

    Attributes:
        completed: whether somebody has set it; then `value` or `failure` tells to what.
        waiters: invocations that wait for it; none once it is completed.
    """

    completed: bool
    value: bytes | None
    failure: Failure | None
    waiters: tuple[Sink, ...] = ()


encode_promise: Final = msgspec.msgpack.Encoder().encode
decode_promise: Final = msgspec.msgpack.Decoder(Promise).decode
