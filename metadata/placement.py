"""Where each partition is: a metadata value that says which nodes have it and which one leads.

Pure values and their encoding; `node.controller` decides what they are.
"""

from typing import Final

import msgspec

from ..core.errors import StorageCorruptError, StorageFormatError

PLACEMENT_KEY: Final = "placement"
"""The metadata key of the value."""

PLACEMENT_FORMAT: Final = 1


class PartitionPlacement(msgspec.Struct, frozen=True):
    """Where one partition is.

    Attributes:
        replicas: the ids of the nodes that have it, sorted.
        leader: the one of them that is to lead it, 0 while none can.
        moved: an operator put the lead there; only need takes it away.
    """

    replicas: tuple[int, ...]
    leader: int
    moved: bool = False


class Placement(msgspec.Struct, frozen=True):
    """Where all partitions are; `partitions` is in the order of their numbers."""

    format: int
    partitions: tuple[PartitionPlacement, ...]

    def led_by(self, node_id: int) -> tuple[int, ...]:
        """The partitions that a node is to lead."""
        return tuple(
            number for number, item in enumerate(self.partitions) if item.leader == node_id
        )

    def kept_by(self, node_id: int) -> tuple[int, ...]:
        """The partitions that a node is to have, those that it leads included."""
        return tuple(
            number for number, item in enumerate(self.partitions) if node_id in item.replicas
        )


class _Format(msgspec.Struct, frozen=True):
    format: int


_encode: Final = msgspec.json.Encoder().encode
_decode_format: Final = msgspec.json.Decoder(_Format).decode
_decode: Final = msgspec.json.Decoder(Placement).decode


def encode_placement(placement: Placement) -> bytes:
    """The bytes that `PLACEMENT_KEY` holds."""
    return _encode(placement)


def decode_placement(value: bytes) -> Placement:
    """Read what `encode_placement` wrote. Raises StorageFormatError or StorageCorruptError."""
    try:
        form = _decode_format(value).format
        if form > PLACEMENT_FORMAT:
            raise StorageFormatError(
                f"metadata key {PLACEMENT_KEY!r} is stored in format {form}, newer than this "
                f"program's {PLACEMENT_FORMAT}: use the release that wrote it, or a later one"
            )
        return _decode(value)
    except msgspec.MsgspecError as error:
        raise StorageCorruptError(
            f"metadata key {PLACEMENT_KEY!r} does not decode ({error}): delete it, and the "
            "controller makes a new one"
        ) from None
