"""The inbox table: who waits for a virtual object, in the order in which they came."""

from typing import Final

import msgspec

from ...core.ids import INVOCATION_ID_BYTES, InvocationId
from ..records import PatchState


class InboxItem(msgspec.Struct, frozen=True, gc=False):
    """One that waits: an exclusive invocation, or a change of the state from outside."""

    invocation_id: InvocationId | None
    change: PatchState | None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_change: Final = msgspec.msgpack.Decoder(PatchState).decode
# Nobody's id, so that the value is longer than an id.
_CHANGE: Final = bytes(INVOCATION_ID_BYTES)


def encode_item(item: InboxItem) -> bytes:
    """The row's value: the id as it is, as an earlier release wrote it, or a marked change."""
    if item.invocation_id is not None:
        return bytes(item.invocation_id)
    return _CHANGE + _encode(item.change)


def decode_item(value: bytes) -> InboxItem:
    """What `encode_item` wrote."""
    if len(value) == INVOCATION_ID_BYTES:
        return InboxItem(InvocationId(value), None)
    return InboxItem(None, _decode_change(value[INVOCATION_ID_BYTES:]))
