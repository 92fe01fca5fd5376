"""Whatever a worker sends, apply takes it or fails the attempt; it never stops the partition."""

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from perdure.core.ids import InvocationId, awakeable_id_text, invocation_id_text
from perdure.core.protocol import messages
from perdure.core.random import SeededRandom
from perdure.ingress.input_frames import input_frame
from perdure.partition_processor.entries.registry import ENTRIES
from perdure.partition_processor.records import (
    KIND_SERVICE,
    AttemptChunk,
    AttemptFailed,
    AttemptStarted,
    CallTarget,
    Command,
    Invoke,
    Kill,
    Pause,
    Resume,
    Signal,
)
from perdure.proto.generated import service_protocol_pb2 as wire

from .support import Partition, frames, identity

SECOND_NS = 10**9
CALLS = (messages.CALL_COMMAND, messages.ONE_WAY_CALL_COMMAND)
OTHERS = (messages.END, messages.SUSPENSION, messages.ERROR, messages.SIGNAL, 0x777)
TYPES: dict[int, Any] = {
    number: getattr(wire, name.title().replace("_", ""))
    for name, number in vars(messages).items()
    if name.endswith("_COMMAND") and number in ENTRIES
} | {messages.RUN_COMPLETION: wire.Notification}


class Hostile:
    """Draws frames that are nearly right."""

    def __init__(self, seed: int) -> None:
        self._random = SeededRandom(seed)
        self.ids: list[Any] = []

    def below(self, count: int) -> int:
        return self._random.bits(30) % count

    def pick(self, *options: Any) -> Any:
        return options[self.below(len(options))]

    def fill(self, message: Any) -> Any:
        """Set about two thirds of the fields."""
        for field in message.DESCRIPTOR.fields:
            if self.below(3) == 0:
                continue
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                if field.is_repeated:
                    for _ in range(self.below(3)):
                        self.fill(getattr(message, field.name).add())
                else:
                    inner = getattr(message, field.name)
                    inner.SetInParent()
                    self.fill(inner)
            elif field.is_repeated:
                values = [self.value(field) for _ in range(self.below(3))]
                getattr(message, field.name).extend(values)
            else:
                setattr(message, field.name, self.value(field))
        return message

    def value(self, field: FieldDescriptor) -> Any:
        if field.type == FieldDescriptor.TYPE_STRING:
            other = self.pick(*self.ids)
            return self.pick(
                "",
                "k",
                "x" * 3000,
                "inv_1" + "0" * 33,
                "sign_1" + "A" * 38,
                invocation_id_text(other),
                awakeable_id_text(other, 17),
            )
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self.pick(b"", b"v", b"\xff" * 100)
        if field.type == FieldDescriptor.TYPE_UINT64:
            return self.pick(0, 1, 10**13, 2**64 - 1)
        return self.pick(0, 2, 17, 10**6, 2**32 - 1, *(1 + self.below(500) for _ in range(9)))

    def chunk(self, invocation_id: Any, attempt: int) -> AttemptChunk:
        """Some frames, with a target for each call that parses."""
        chosen: list[tuple[int, bytes]] = []
        calls: list[CallTarget] = []
        for _ in range(1 + self.below(4)):
            kind = self.pick(*TYPES, *OTHERS)
            if kind not in TYPES:
                chosen.append((kind, self.pick(b"", b"\x0a\x01\x02\x12\x01\x01")))
                continue
            body = self.fill(TYPES[kind]()).SerializeToString()
            if self.below(20) == 0:
                body = body[:-1] or b"\xff"
            chosen.append((kind, body))
            if kind in CALLS:
                try:
                    key = TYPES[kind].FromString(body).key or None
                except DecodeError:
                    continue
                calls.append(self.target(key))
        return AttemptChunk(invocation_id, attempt, "dp", frames(*chosen), tuple(calls))

    def target(self, key: str | None) -> CallTarget:
        kind = KIND_SERVICE if key is None else self.below(5)
        new = identity(len(self.ids) + 1, None if kind == KIND_SERVICE else "k")
        self.ids.append(new)
        return CallTarget(new, kind, SECOND_NS, SECOND_NS)

    def invoke(self) -> Invoke:
        target = self.target(self.pick(None, "k"))
        key = None if target.target_kind == KIND_SERVICE else "k"
        return Invoke(
            target.invocation_id,
            "S",
            "h",
            key,
            target.target_kind,
            input_frame(b"", b"1"),
            completion_retention_ns=self.pick(0, SECOND_NS),
        )


@pytest.mark.parametrize("seed", range(30))
def test_no_frames_of_a_worker_stop_a_partition(seed: int) -> None:
    hostile = Hostile(seed)
    partition = Partition()
    partition.apply(hostile.invoke())
    failed = 0
    for step in range(150):
        known = [InvocationId(key[1:]) for key in partition.content() if key[:1] == b"i"]
        invocation_id = hostile.pick(*known, *hostile.ids[-2:])
        invocation = partition.transaction.invocation(invocation_id)
        attempt = 0 if invocation is None else invocation.attempt
        before = failed
        # Nearly always something of a worker; everything else only keeps things going.
        others: tuple[Command, ...] = (
            *(hostile.invoke() for _ in range(3)),
            AttemptStarted(invocation_id, attempt + 1),
            AttemptFailed(invocation_id, attempt, 500, "boom", 1, True),
            Signal(invocation_id, messages.SIGNAL_CANCEL, "", None, None),
            Kill(invocation_id),
            Pause(invocation_id),
            Resume(invocation_id),
        )
        chunks = (hostile.chunk(invocation_id, attempt) for _ in range(12))
        partition.apply(hostile.pick(*chunks, *others), time_ns=1_000 + step)
        after = partition.transaction.invocation(invocation_id)
        failed = before + (after is not None and (after.last_failure or "").startswith("[571]"))

    assert failed > 0, "no frame was refused: this tries nothing"
    rows = sum(key[:1] == b"i" for key in partition.content())
    assert sum(partition.machine.progress().counts) == rows
