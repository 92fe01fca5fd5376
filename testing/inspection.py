"""Looking into the node of a test: states, journals, and what is not finished."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from ..core.errors import PerdureError
from ..core.hashing import keyed_partition_key
from ..core.ids import InvocationId, invocation_id_text, parse_invocation_id, partition_key_of
from ..core.protocol.messages import split_frames
from ..partition_processor.manager import PartitionManager
from ..partition_processor.processor import PartitionProcessor
from ..partition_processor.records import PatchState
from ..partition_processor.tables import keys
from ..partition_processor.tables.invocations import (
    STATUS_COMPLETED,
    STATUS_NAMES,
    Invocation,
    decode_invocation,
)
from .replay_check import describe_entry

UNFINISHED_SHOWN: int = 10


class Entry(msgspec.Struct, frozen=True):
    """An entry of a journal.

    Attributes:
        number: its place; the Input is 0.
        text: what it is, in words, such as ``Run (name 'charge', completion 1)``.
        frame_type: its type in the service protocol.
        body: its message, encoded.
    """

    number: int
    text: str
    frame_type: int
    body: bytes

    def __str__(self) -> str:
        """The words."""
        return self.text


class Inspection:
    """Reads the rows of a node; to be used between turns of its loop."""

    def __init__(self, manager: PartitionManager) -> None:
        """Take the partitions."""
        self._manager = manager

    def _object(self, service: str, key: str) -> tuple[PartitionProcessor, bytes, bytes]:
        partition_key = keyed_partition_key(key)
        processor = self._manager.processor_for(partition_key)
        return processor, partition_key.to_bytes(8, "big"), keys.object_suffix(service, key)

    def state(self, service: str, key: str) -> dict[str, Any]:
        """The state of an object, decoded where it is JSON."""
        processor, partition_key, name = self._object(service, key)
        state = processor.transaction.object_state(partition_key, name)
        return {name.decode(): _decoded(value) for name, value in sorted(state.items())}

    async def set_state(self, service: str, key: str, values: Mapping[str, Any]) -> None:
        """Replace the state of an object, in its turn. Raises PerdureError."""
        processor, partition_key, _ = self._object(service, key)
        changes = tuple(
            (name.encode(), value if isinstance(value, bytes) else msgspec.json.encode(value))
            for name, value in values.items()
        )
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        command = PatchState(partition_key, service, key, changes, True, None)
        processor.operate(command, partial(_settle, done))
        outcome = await done
        if isinstance(outcome, PerdureError):
            raise outcome

    def _found(self, invocation_id: str) -> tuple[PartitionProcessor, InvocationId, Invocation]:
        parsed = parse_invocation_id(invocation_id)
        processor = self._manager.processor_for(partition_key_of(parsed))
        invocation = processor.transaction.invocation(parsed)
        if invocation is None:
            raise KeyError(f"invocation {invocation_id} is not known, or not any more")
        return processor, parsed, invocation

    def journal(self, invocation_id: str) -> list[Entry]:
        """The entries of an invocation. Raises KeyError."""
        processor, parsed, invocation = self._found(invocation_id)
        entries: list[Entry] = []
        for chunk in processor.transaction.journal(parsed, invocation):
            for kind, start, end in split_frames(chunk.frames):
                body = chunk.frames[start:end]
                entries.append(Entry(len(entries), describe_entry(kind, body), kind, body))
        return entries

    def status(self, invocation_id: str) -> str:
        """One of `STATUS_NAMES`. Raises KeyError."""
        return STATUS_NAMES[self._found(invocation_id)[2].status]

    def unfinished(self) -> str:
        """The invocations that have not completed, and what each did last."""
        lines: list[str] = []
        for processor in self._manager.processors:
            rows = processor.transaction.scan(keys.INVOCATIONS, keys.prefix_end(keys.INVOCATIONS))
            for row, value in rows:
                invocation = decode_invocation(value)
                if invocation.status != STATUS_COMPLETED:
                    lines.append(self._line(InvocationId(row[1:]), invocation))
            break  # one store holds the rows of all partitions
        shown = "; ".join(lines[:UNFINISHED_SHOWN])
        more = len(lines) - UNFINISHED_SHOWN
        return f"{shown} and {more} more" if more > 0 else shown

    def _line(self, invocation_id: InvocationId, invocation: Invocation) -> str:
        key = "" if invocation.key is None else f"{invocation.key}/"
        name = f"{invocation.service}/{key}{invocation.handler}"
        entries = self.journal(invocation_id_text(invocation_id))
        text = f"{name} is {STATUS_NAMES[invocation.status]}"
        if len(entries) > 1:
            text += f" after {entries[-1].text}"
        if invocation.last_failure:
            text += f", last failure: {invocation.last_failure}"
        return text


def _decoded(value: bytes) -> Any:
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return value


def _settle(done: "asyncio.Future[Any]", outcome: Any) -> None:
    if not done.done():
        done.set_result(outcome)
