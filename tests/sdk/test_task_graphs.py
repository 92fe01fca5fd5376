"""Random task graphs: whatever a handler does, every replay from every point does the same.

Each graph is run once against a node that answers in an order of its own, then replayed from every
prefix of its journal, and again and again in one process. PERDURE_TASK_GRAPHS says how many.
"""

import logging
import os
from dataclasses import dataclass, field
from random import Random

import pytest

from perdure.core.ids import InvocationId, invocation_id_text
from perdure.core.protocol import messages
from perdure.core.protocol.messages import frame
from perdure.proto.generated import service_protocol_pb2 as pb
from perdure.sdk.attempt import Attempt
from perdure.sdk.steps import Step

from .fake_node import (
    CANCEL,
    SUSPEND,
    Frame,
    InlineHost,
    frames_of,
    input_frame,
    is_command,
    note,
    parsed,
    signal,
    start_frame,
)
from .task_graphs import Graph

GRAPHS = int(os.environ.get("PERDURE_TASK_GRAPHS", "64"))
FIRST_SEED = int(os.environ.get("PERDURE_TASK_GRAPHS_FIRST", "0"))
REPLAYS = 40
START_NS = 1_000_000_000_000_000_000
ENTRIES_MAX = 300


@dataclass
class Entry:
    """One journal entry: a command or a notification, and the time of its record."""

    kind: int
    data: bytes
    time_ns: int

    @property
    def is_command(self) -> bool:
        return is_command(self.kind)


@dataclass
class History:
    """What came of one run."""

    entries: list[Entry] = field(default_factory=list)
    ending: list[Frame] = field(default_factory=list)


class ScriptedNode:
    """Answers what a graph asks, in a random order, several at a time."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.random = Random(f"node {seed}")
        self.time_ns = START_NS
        self.host = InlineHost()
        self.host.time_ns = START_NS
        self.attempt = Attempt(graph.service.handlers["it"], self.host)
        self.history = History()
        self.waiting: list[bytes] = [signal(name, value=b"7") for name in graph.signals]
        self.waiting += [signal(17 + number, value=b"8") for number in range(graph.awakeables)]
        if self.random.random() < 0.2:
            self.waiting.append(CANCEL)

    def run(self) -> History:
        """Run the graph to its end."""
        opening = start_frame(1) + input_frame(b"")
        self._take(self.attempt.feed(opening, self.time_ns))
        while not self.attempt.ended:
            assert len(self.history.entries) < ENTRIES_MAX, "it does not end"
            self._take(self.host.run_steps(self._some))
            if self.attempt.ended:
                break
            assert self.waiting, "it waits for nothing"
            self._answer()
        return self.history

    def _some(self, steps: list[Step]) -> list[Step]:
        # Closures end in any order.
        return self.random.sample(steps, len(steps))

    def _answer(self) -> None:
        count = self.random.choice((1, 1, 1, 2, 3))
        notes = [
            self.waiting.pop(self.random.randrange(len(self.waiting)))
            for _ in range(min(count, len(self.waiting)))
        ]
        self.time_ns += self.random.randrange(0, 400_000_000)
        self.host.time_ns = self.time_ns - self.random.randrange(0, 100_000_000)
        for each in notes:
            self.history.entries.append(Entry(frames_of(each)[0][0], each, self.time_ns))
        self._take(self.attempt.feed(b"".join(notes), self.time_ns))

    def _take(self, answer: bytes) -> None:
        for one in frames_of(answer):
            kind, body = one
            if kind == messages.PROPOSE_RUN_COMPLETION:
                self._proposed(one)
            elif kind in (messages.OUTPUT_COMMAND, messages.END, messages.ERROR):
                self.history.ending.append(one)
            else:
                self.history.entries.append(Entry(kind, frame(kind, body), self.time_ns))
                self._asked(one)

    def _proposed(self, one: Frame) -> None:
        proposal = parsed(one)
        completion = proposal.result_completion_id
        if proposal.HasField("failure"):
            failure = (proposal.failure.code, proposal.failure.message)
            self.waiting.append(note(messages.RUN_COMPLETION, completion, failure=failure))
        else:
            self.waiting.append(note(messages.RUN_COMPLETION, completion, value=proposal.value))

    def _asked(self, one: Frame) -> None:
        kind = one[0]
        command = parsed(one)
        if kind == messages.SLEEP_COMMAND:
            self.waiting.append(note(messages.SLEEP_COMPLETION, command.result_completion_id))
        elif kind in (messages.CALL_COMMAND, messages.ONE_WAY_CALL_COMMAND):
            index = command.invocation_id_notification_idx
            child = invocation_id_text(InvocationId(index.to_bytes(24, "big")))
            self.waiting.append(note(messages.CALL_INVOCATION_ID, index, invocation_id=child))
            if kind == messages.CALL_COMMAND:
                result = command.result_completion_id
                if b"bad" in command.parameter:
                    answer = note(messages.CALL_COMPLETION, result, failure=(500, "bad"))
                else:
                    answer = note(messages.CALL_COMPLETION, result, value=command.parameter)
                self.waiting.append(answer)


def comparable(kind: int, data: bytes) -> tuple[int, bytes]:
    """A frame without what may differ from attempt to attempt."""
    body = parsed((kind, data))
    if kind == messages.SLEEP_COMMAND:
        body.wake_up_time = 0
    elif kind == messages.ERROR:
        body.stacktrace = ""
    return kind, body.SerializeToString()


class Replay:
    """An attempt that is given a part of a journal, then the notifications of the rest.

    Attributes:
        sent: the frames that it has sent, comparable.
    """

    def __init__(self, graph: Graph, entries: list[Entry], prefix: int) -> None:
        self.host = InlineHost()
        self.host.time_ns = START_NS
        self.attempt = Attempt(graph.service.handlers["it"], self.host)
        self.sent: list[tuple[int, bytes]] = []
        opening = start_frame(prefix + 1) + input_frame(b"")
        self.feed(opening, START_NS)
        for entry in entries[:prefix]:
            self.feed(entry.data, entry.time_ns)

    def feed(self, data: bytes, time_ns: int) -> int:
        """Give frames; returns how many it sent for them."""
        answer = frames_of(self.attempt.feed(data, time_ns))
        self.sent += [comparable(*one) for one in answer]
        return len(answer)


def completions_of(entries: list[Entry]) -> set[int]:
    """The completions among entries."""
    return {
        note_of(entry).completion_id
        for entry in entries
        if not entry.is_command and note_of(entry).completion_id
    }


def note_of(entry: Entry) -> pb.Notification:
    """The notification of an entry."""
    return pb.Notification.FromString(entry.data[8:])


def check_prefix(graph: Graph, history: History, prefix: int) -> None:
    """A replay from here on sends exactly the commands that follow, and ends alike."""
    entries = history.entries
    replay = Replay(graph, entries, prefix)
    answered = completions_of(entries[:prefix])
    begun = {step.completion_id for step in replay.host.steps}
    assert not begun & answered, "a step ran although its result is there"
    if not replay.attempt.ended:
        check_suspension(graph, history, prefix)
    for entry in entries[prefix:]:
        if not entry.is_command:
            replay.feed(entry.data, entry.time_ns)

    expected = [
        comparable(each.kind, each.data[8:]) for each in entries[prefix:] if each.is_command
    ]
    expected += [comparable(*one) for one in history.ending]
    assert replay.sent == expected
    assert replay.attempt.ended


def check_suspension(graph: Graph, history: History, prefix: int) -> None:
    """When it suspends here, something that it names comes before it would have gone on."""
    suspended = Replay(graph, history.entries, prefix)
    suspended.sent.clear()
    suspended.feed(SUSPEND, START_NS)
    if not suspended.attempt.ended:
        suspended.attempt.abort()
        assert suspended.host.steps, "nothing runs, and yet it does not suspend"
        return
    (kind, body), *rest = suspended.sent
    assert kind == messages.SUSPENSION
    assert not rest
    waits = parsed((kind, body))
    named: set[tuple[str, int | str]] = (
        {("completion", each) for each in waits.waiting_completions}
        | {("signal", each) for each in waits.waiting_signals}
        | {("name", each) for each in waits.waiting_named_signals}
    )
    assert named
    going = Replay(graph, history.entries, prefix)
    for entry in history.entries[prefix:]:
        if entry.is_command:
            continue
        what = note_of(entry)
        key: tuple[str, int | str]
        if what.completion_id:
            key = ("completion", what.completion_id)
        elif what.signal_name:
            key = ("name", what.signal_name)
        else:
            key = ("signal", what.signal_index)
        if key in named:
            break
        assert not going.feed(entry.data, entry.time_ns), f"{key} wakes it and is not named"
    going.attempt.abort()


@pytest.mark.parametrize("part", range(8))
def test_every_replay_does_the_same(part: int) -> None:
    """From every prefix of the journal, and forty times from its end."""
    logging.getLogger("perdure.sdk").setLevel(logging.CRITICAL)
    try:
        for seed in range(FIRST_SEED + part, FIRST_SEED + GRAPHS, 8):
            graph = Graph(seed)
            history = ScriptedNode(graph, seed).run()
            try:
                for prefix in range(len(history.entries) + 1):
                    check_prefix(graph, history, prefix)
                for _ in range(REPLAYS):
                    whole = Replay(graph, history.entries, len(history.entries))
                    assert whole.sent == [comparable(*one) for one in history.ending]
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {graph.root}: {error}") from error
    finally:
        logging.getLogger("perdure.sdk").setLevel(logging.NOTSET)


def test_graphs_do_everything_there_is() -> None:
    """The generator draws each kind of node, and its graphs issue each kind of command."""
    kinds: set[int] = set()
    ends: set[int] = set()
    for seed in range(150):
        history = ScriptedNode(Graph(seed), seed).run()
        kinds |= {entry.kind for entry in history.entries}
        ends |= {kind for kind, _body in history.ending}

    assert kinds >= {
        messages.RUN_COMMAND,
        messages.SLEEP_COMMAND,
        messages.CALL_COMMAND,
        messages.ONE_WAY_CALL_COMMAND,
        messages.SEND_SIGNAL_COMMAND,
        messages.SIGNAL,
    }
    assert messages.OUTPUT_COMMAND in ends
