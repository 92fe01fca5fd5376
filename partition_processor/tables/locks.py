"""The locks table: who holds a virtual object, and the ends of its queue."""

from typing import Final

import msgspec

from ...core.ids import InvocationId


class Lock(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An object that an exclusive invocation holds.

    Attributes:
        holder: the invocation that has it.
        head: number of the first one waiting in the inbox.
        tail: number that the next one to wait gets; equal to `head` when nobody waits.
    """

    holder: InvocationId
    head: int
    tail: int


encode_lock: Final = msgspec.msgpack.Encoder().encode
decode_lock: Final = msgspec.msgpack.Decoder(Lock).decode
