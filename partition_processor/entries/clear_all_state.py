"""CLEAR_ALL_STATE: every state of the key is removed."""

from .appending import Appending
from .entry import WRITERS, Entry
from .set_state import REFUSAL


def _apply(chunk: Appending, _message: object, _end: int) -> None:
    chunk.context.transaction.clear_state(chunk.partition_key, chunk.object_name)


CLEAR_ALL_STATE = Entry(None, _apply, None, WRITERS, REFUSAL)
