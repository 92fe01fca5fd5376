"""What admin REST tells about the state of objects; the command line reads the same types."""

from typing import Literal

import msgspec

from .invocation_answers import RelatedView, ValueView


class StateEntry(msgspec.Struct, frozen=True):
    """One entry of a state."""

    name: str
    value: ValueView


class StateView(msgspec.Struct, frozen=True):
    """The state of an object or workflow.

    Attributes:
        version: tells one content of the whole state from another, hex.
        entries: by name; only the one that was asked for, if one was.
        holder: the invocation that has the object's lock, before which no change is made.
    """

    service: str
    key: str
    version: str
    entries: list[StateEntry]
    holder: RelatedView | None


class StateAnswer(msgspec.Struct, frozen=True):
    """What a change came to.

    Attributes:
        outcome: ``queued`` when it waits for the object's invocations and is made in its turn.
        version: of the state now, which is not changed yet when it is queued; empty where the node
            that leads the object's partition was lost since.
        holder: of the lock, when it is queued; None as above.
    """

    outcome: Literal["done", "queued"]
    version: str
    holder: RelatedView | None
