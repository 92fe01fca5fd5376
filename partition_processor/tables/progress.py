"""The progress row: how far a partition has come. Written with every applied batch."""

from typing import Final

import msgspec

from .invocations import STATUS_NAMES

NO_COUNTS: Final = (0,) * len(STATUS_NAMES)


class Progress(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How far a partition has come, as of the last applied record.

    Attributes:
        applied_lsn: last LSN applied; 0 before the first.
        epoch: highest leader epoch announced.
        digest: chain over all operations applied, 16 bytes.
        counts: invocations by status, in the order of `invocations.STATUS_NAMES`; an older release
            wrote fewer.
        sequence: number of the last record of the leader of `epoch`; -1 when that is not known.
    """

    applied_lsn: int = 0
    epoch: int = 0
    digest: bytes = bytes(16)
    counts: tuple[int, ...] = NO_COUNTS
    sequence: int = -1


encode_progress: Final = msgspec.msgpack.Encoder().encode
decode_progress: Final = msgspec.msgpack.Decoder(Progress).decode
