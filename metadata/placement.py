"""Where each partition is: a metadata value that says which nodes have it and which one leads.

Pure values and their encoding; `node.controller` decides what they are.
"""

from typing import Final

import msgspec

from .formats import decode_value

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


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Placement).decode


def encode_placement(placement: Placement) -> bytes:
    """The bytes that `PLACEMENT_KEY` holds."""
    return _encode(placement)


def decode_placement(value: bytes) -> Placement:
    """Read what `encode_placement` wrote. Raises StorageFormatError or StorageCorruptError."""
    return decode_value(
        PLACEMENT_KEY,
        value,
        _decode,
        format_max=PLACEMENT_FORMAT,
        way_out="delete it, and the controller makes a new one",
    )
