"""Reading a loglet's batches from whichever of its servers has them."""

import msgspec

from ...core.errors import StorageError
from ..batch_codec import batch_key, decode_batch
from ..errors import CorruptBatchError
from ..types import Batch
from .members import Members
from .messages import OK, TRIMMED, Batches, Read


class Found(msgspec.Struct, frozen=True):
    """What the servers gave.

    Attributes:
        batches: from the one that was asked for on; None when nobody has it who answers.
        trim_point: the greatest that a server told of.
        known_tail: the greatest that a server told of.
        damage: why a server's copy could not be used, None when all could.
    """

    batches: list[Batch] | None
    trim_point: int = 0
    known_tail: int = 1
    damage: StorageError | None = None


async def read_batches(
    members: Members,
    loglet: int,
    first_offset: int,
    *,
    bytes_max: int,
    known_tail: int,
    turn: int,
    seconds: float,
) -> Found:
    """Batches from the one that holds `first_offset`, from the first server that has it.

    What is at or above `known_tail` may not be there yet: then the first server's word that it
    knows of nothing is taken, and the batches are empty. Raises LogletGoneError. Cancelling is
    safe.
    """
    trim_point, known, damage = 0, known_tail, None
    for member in members.reading_order(turn):
        reply = await members.ask(
            member,
            lambda number, storage, known=known: Read(  # type: ignore[misc]
                number, storage, loglet, first_offset, bytes_max, known
            ),
            Batches,
            seconds,
        )
        if reply is None or reply.status not in (OK, TRIMMED):
            continue
        known = max(known, reply.known_tail)
        trim_point = max(trim_point, reply.trim_point)
        if reply.status == TRIMMED:
            return Found(None, trim_point, known, damage)
        if not reply.batches:
            if first_offset >= known:
                return Found([], trim_point, known, damage)
            continue
        try:
            batches = _decoded(loglet, first_offset, reply.batches)
        except StorageError as error:
            damage = error
            continue
        return Found(batches, trim_point, known, damage)
    return Found(None, trim_point, known, damage)


def _decoded(loglet: int, first_offset: int, stored: list[tuple[int, bytes]]) -> list[Batch]:
    """The batches, checked. Raises CorruptBatchError, StorageFormatError."""
    batches: list[Batch] = []
    expected = first_offset
    for last_offset, value in stored:
        try:
            batch = decode_batch(batch_key(loglet, last_offset), value)
        except CorruptBatchError:
            if batches:
                return batches  # Whoever reads on meets it, and another server.
            raise
        fits = batch.first_offset == expected if batches else batch.first_offset <= expected
        if not fits:
            raise CorruptBatchError(loglet, last_offset, f"it does not follow offset {expected}")
        expected = batch.last_offset + 1
        batches.append(batch)
    return batches
