"""What the registry knows of an entry: how to read it, who may send it, what it does."""

from collections.abc import Callable
from typing import Any

import msgspec

from ..records import (
    KIND_OBJECT_EXCLUSIVE,
    KIND_OBJECT_SHARED,
    KIND_SERVICE,
    KIND_WORKFLOW_RUN,
    KIND_WORKFLOW_SHARED,
)
from .appending import Appending

EVERYBODY = (
    KIND_SERVICE,
    KIND_OBJECT_EXCLUSIVE,
    KIND_OBJECT_SHARED,
    KIND_WORKFLOW_RUN,
    KIND_WORKFLOW_SHARED,
)
KEYED = EVERYBODY[1:]
WRITERS = (KIND_OBJECT_EXCLUSIVE, KIND_WORKFLOW_RUN)
WORKFLOWS = (KIND_WORKFLOW_RUN, KIND_WORKFLOW_SHARED)


class Entry(msgspec.Struct, frozen=True):
    """One type of frame that code may send.

    Attributes:
        read: gives the message of a body and checks it; raises DecodeError or
            ProtocolViolationError. None where the body is not looked at.
        apply: (chunk, message, end of the frame) → nothing; None where storing it is all.
        completion_ids: the ids of a message whose completions are still to come.
        kinds: the kinds of target that may send it.
        refusal: what to tell one that may not.
    """

    read: Callable[[bytes], Any] | None = None
    apply: Callable[[Appending, Any, int], None] | None = None
    completion_ids: Callable[[Any], tuple[int, ...]] | None = None
    kinds: tuple[int, ...] = EVERYBODY
    refusal: str = ""


def result_completion_id(message: Any) -> tuple[int, ...]:
    """The one id that most commands with a completion have."""
    return (message.result_completion_id,)
