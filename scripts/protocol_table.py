"""Writes docs/protocol.md: every message, command and transition, with the tests that cover it.

    PYTHONPATH=src python scripts/protocol_table.py

Numbers, fields, phrases and transitions come from the code and its tests; tests say what they cover
with `tests.covering.covers`. `tests/partition_processor/test_protocol_table.py` fails when the file
is not what this gives, so change the code or the marks, and run it again.
"""

import ast
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

from perdure.core.protocol import messages
from perdure.partition_processor import entries
from perdure.partition_processor.entries.registry import ENTRIES
from perdure.partition_processor.records import COMMAND_TYPES
from perdure.proto.generated import service_protocol_pb2 as wire

ROOT: Final = Path(__file__).resolve().parent.parent
TARGET: Final = ROOT / "docs" / "protocol.md"

UNKNOWN: Final = "UNKNOWN"
"""What tests name when they cover frames of every other type."""

NOT_MESSAGES: Final = frozenset(
    (
        "PROTOCOL_VERSION",
        "SIGNAL_CANCEL",
        "SIGNAL_FIRST_AWAKEABLE",
        "COMMAND_FIRST",
        "COMMAND_LAST",
        "NOTIFICATION_FIRST",
        "NOTIFICATION_LAST",
        "FRAME_HEADER_BYTES",
        "ENTRY_BYTES_MAX",
    )
)
"""Numbers of `core.protocol.messages` that are not the type of a message."""

CORE: Final = {
    "START": ("to code", "opens an attempt: id, state and how many entries follow"),
    "SUSPENSION": ("from code", "ends the attempt until one of these comes"),
    "ERROR": ("from code", "ends the attempt: try again, pause or fail, as it says or by policy"),
    "END": ("from code", "ends the invocation with its last output"),
    "COMMAND_ACK": ("neither", "no code that is served asks for it; refused from code"),
    "PROPOSE_RUN_COMPLETION": ("from code", "becomes the RUN_COMPLETION, before it is stored"),
}
"""Messages that are not entries: direction and effect."""

NOTIFICATIONS: Final = {
    "GET_LAZY_STATE_COMPLETION": "at once: the value, void when there is none",
    "GET_LAZY_STATE_KEYS_COMPLETION": "at once: the names, in order",
    "GET_PROMISE_COMPLETION": "when the promise is completed: its value or failure",
    "PEEK_PROMISE_COMPLETION": "at once: value or failure, void while it is open",
    "COMPLETE_PROMISE_COMPLETION": "at once: void, or failure 409 for all but the first",
    "SLEEP_COMPLETION": "when the timer fires: void",
    "CALL_COMPLETION": "when the called one completes: its value or failure",
    "CALL_INVOCATION_ID": "at once: the id's text",
    "RUN_COMPLETION": "when the proposal is durable: value or failure",
    "ATTACH_INVOCATION_COMPLETION": "when there is a result: value or failure, 404 for unknown",
    "GET_INVOCATION_OUTPUT_COMPLETION": "at once: value or failure, void while there is none",
    "SIGNAL": "when it comes: void, value or failure; index 1 is a cancellation",
}

SESSION: Final = {
    "HELLO": ("from worker", "who it is, what it runs, how many attempts it takes"),
    "WELCOME": ("to worker", "it is in; the node's time"),
    "REFUSED": ("to worker", "it is not; the error"),
    "NODES": ("to worker", "the nodes of the cluster that take workers; again when it changes"),
    "DRAIN": ("from worker", "it finishes what it has and takes nothing new"),
    "OPEN": ("to worker", "which handler a stream runs, epoch and attempt; START follows"),
    "ABORT": ("both", "the attempt is over; given back, the stream is free again"),
    "SUPERSEDED": ("to worker", "the log has refused what the attempt wrote"),
    "SUSPEND": ("to worker", "suspend as soon as the handler waits and runs no step"),
}
"""Our own frames of the worker session: direction and effect."""

ELSEWHERE: Final = {
    "HELLO": ("tests/sdk/test_worker.py::test_hello_announces_the_app",),
    "WELCOME": (
        "tests/sdk/test_worker.py::test_attempts_in_one_message_with_the_welcome_are_served",
    ),
    "REFUSED": (
        "tests/sdk/test_worker.py::test_refusal_for_good_stops_the_worker",
        "tests/node/test_hostile.py::test_a_worker_that_cannot_be_served_is_told_why",
    ),
    "NODES": (
        "tests/partition_processor/test_reception.py::"
        "test_workers_are_told_of_the_nodes_and_of_each_change",
        "tests/sdk/test_known_nodes.py::test_a_worker_goes_to_the_nodes_that_it_is_told_of",
    ),
    "DRAIN": ("tests/sdk/test_worker.py::test_drain_finishes_what_runs",),
    "ABORT": (
        "tests/node/test_superseded.py::test_a_worker_that_confirms_the_abort_is_free_again",
    ),
    "SUPERSEDED": (
        "tests/node/test_superseded.py::test_a_frozen_attempt_that_wakes_is_refused_by_the_log",
    ),
    "SUSPEND": ("tests/sdk/test_suspension.py::test_request_waits_until_the_handler_is_blocked",),
}
"""Tests that carry no mark, of what the session does with the frames that are its own."""

_TYPES: Final = {
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "u32",
    FieldDescriptor.TYPE_UINT64: "u64",
    FieldDescriptor.TYPE_BOOL: "bool",
}


class Covering(NamedTuple):
    """A test that covers something."""

    path: str
    name: str


def message_names() -> dict[str, int]:
    """Every message of `core.protocol.messages`, in the order of the numbers."""
    found = {
        name: value
        for name, value in vars(messages).items()
        if name.isupper() and type(value) is int and name not in NOT_MESSAGES
    }
    return dict(sorted(found.items(), key=lambda item: item[1]))


def message_class(name: str) -> Any:
    """The protobuf class of a message's body; None for our own frames."""
    if name in SESSION:
        return None
    if name in NOTIFICATIONS:
        return wire.Notification
    return getattr(wire, "".join(part.capitalize() for part in name.split("_")))


def tests_in(path: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """The test functions of a file by name, those in classes too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name: node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def covered() -> dict[str, list[Covering]]:
    """The tests by what they cover. Raises LookupError for a test that is not there."""
    found: dict[str, list[Covering]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        place = path.relative_to(ROOT).as_posix()
        for test in tests_in(path).values():
            for mark in test.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "covers":
                    for argument in mark.args:
                        name = ast.literal_eval(argument)
                        found.setdefault(name, []).append(Covering(place, test.name))
    for name, tests in ELSEWHERE.items():
        for text in tests:
            place, _, test_name = text.partition("::")
            if test_name not in tests_in(ROOT / place):
                raise LookupError(f"{name} is said to be covered by {text}, which is not there")
            found.setdefault(name, []).append(Covering(place, test_name))
    return found


def entry_phrases() -> dict[int, str]:
    """What each entry does, by its type: the first line of its module, its name left out."""
    phrases: dict[int, str] = {}
    for module_info in pkgutil.iter_modules(entries.__path__):
        if module_info.name == "registry":
            continue
        module = importlib.import_module(f"{entries.__name__}.{module_info.name}")
        line = (inspect.getdoc(module) or "").splitlines()[0]
        for number, entry in ENTRIES.items():
            if any(value is entry for value in vars(module).values()):
                phrases[number] = line.partition(": ")[2].rstrip(".")
    return phrases


def _fields(name: str) -> str:
    kind = message_class(name)
    if kind is None:
        return "MessagePack, see `core/protocol/session.py`"
    if kind is wire.Notification:
        which = "2 `signal_index` or 3 `signal_name`" if name == "SIGNAL" else "1 `completion_id`"
        return f"{which}; result"
    return "; ".join(_field(item) for item in kind.DESCRIPTOR.fields) or "none"


def _field(item: Any) -> str:
    kind = item.message_type.name if item.message_type else _TYPES.get(item.type, "enum")
    repeated = "repeated " if item.is_repeated else ""
    return f"{item.number} `{item.name}` {repeated}{kind}"


def _heading(name: str) -> str:
    # A command and a message may have names that differ in their case only.
    return name if name.isupper() else f"Record {name}"


def _link(name: str, tests: dict[str, list[Covering]]) -> str:
    count = len(tests.get(name, ()))
    if not count:
        raise LookupError(f"no test covers {name}: mark one with @covers({name!r})")
    return f"[{count}](#{_heading(name).lower().replace(' ', '-')})"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|" + "---|" * (lines[0].count("|") - 1))
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in row]
        if not all(cells):
            raise LookupError(f"an empty cell in the row {cells}")
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _message_tables(tests: dict[str, list[Covering]]) -> list[str]:
    phrases = entry_phrases()
    core, commands, notifications, session = [], [], [], []
    for name, number in message_names().items():
        start, end = [f"`{number:#06x}`", f"`{name}`"], [_link(name, tests)]
        if name in CORE:
            core.append([*start, CORE[name][0], _fields(name), CORE[name][1], *end])
        elif name in SESSION:
            session.append([*start, *SESSION[name], *end])
        elif name in NOTIFICATIONS:
            notifications.append([*start, NOTIFICATIONS[name], *end])
        elif name == "INPUT_COMMAND":
            phrase = "the first entry: headers and body as they came; refused from code"
            commands.append([*start, "to code", _fields(name), phrase, *end])
        else:
            commands.append([*start, "from code", _fields(name), phrases[number], *end])
    head = ["type", "message", "direction", "fields", "effect", "tests"]
    return [
        "## Core messages",
        "",
        *_table(head, core),
        "Any other type fails the attempt with 571, and nothing of its record is stored, those of",
        f"version 7 (`0x0006`, `0x0007`) among them; tests: {_link(UNKNOWN, tests)}.",
        "",
        "## Commands",
        "",
        "Code sends them; stored, they are sent to the next attempt as they came.",
        "",
        *_table(head, commands),
        "## Notifications",
        "",
        "To code. The result is one of 4 `void`, 5 `value`, 6 `failure`, 16 `invocation_id` and",
        "17 `state_keys`.",
        "",
        *_table(["type", "message", "when, with which result", "tests"], notifications),
        "## Frames of the worker session",
        "",
        "Ours, with numbers that the protocol leaves to runtimes; never in a journal.",
        "",
        *_table(["type", "frame", "direction", "effect", "tests"], session),
    ]


def _command_table(tests: dict[str, list[Covering]]) -> list[str]:
    rows = [
        [
            str(number),
            f"`{kind.__name__}`",
            (inspect.getdoc(kind) or "").splitlines()[0],
            _link(kind.__name__, tests),
        ]
        for number, kind in COMMAND_TYPES.items()
    ]
    return [
        "## Records",
        "",
        "What a partition's log holds: everything that changes its state.",
        "",
        *_table(["kind", "command", "meaning", "tests"], rows),
    ]


def _transition_table(
    tests: dict[str, list[Covering]], statuses: tuple[str, ...], events: Iterable[Any]
) -> list[str]:
    rows = [
        [f"`{event.command}`" + (f" {event.what}" if event.what else "")]
        + [cell.replace("nothing", "-") for cell in event.cells]
        + [_link(event.command, tests)]
        for event in events
    ]
    return [
        "## Transitions",
        "",
        "What a command comes to in each status of the invocation that it is about. A status: it",
        "changes to that; *next attempt*: it runs again at once; *told*: what came is stored and",
        "sent to the attempt; *stored*: it joins the journal; *joined*: one more waits for the",
        "result; *changed*: only the row does; -: nothing. In brackets, what the client is told.",
        "",
        *_table(["command", *statuses, "tests"], rows),
    ]


def _test_lists(tests: dict[str, list[Covering]]) -> list[str]:
    lines = ["## Tests", ""]
    for name in [*message_names(), UNKNOWN, *(kind.__name__ for kind in COMMAND_TYPES.values())]:
        lines += [f"### {_heading(name)}", ""]
        for test in tests[name]:
            sentence = test.name.removeprefix("test_").replace("_", " ")
            lines.append(f"- {sentence} ([{Path(test.path).name}](../{test.path}))")
        lines.append("")
    return lines


def document(statuses: tuple[str, ...], events: Iterable[Any]) -> str:
    """The whole page, for these statuses and the events of their transitions.

    Raises LookupError when something is not covered, or a mark names something that there is not.
    """
    tests = covered()
    known = {*message_names(), *(kind.__name__ for kind in COMMAND_TYPES.values()), UNKNOWN}
    if strangers := sorted(set(tests) - known):
        raise LookupError(f"tests say that they cover what there is not: {', '.join(strangers)}")
    lines = [
        "# The service protocol, message by message",
        "",
        "Written by `scripts/protocol_table.py` from the code and the marks of its tests; a test",
        "compares. What runs user code speaks it: commands come from code, notifications go to it,",
        "and both make up the journal ([architecture](architecture.md)).",
        "",
        *_message_tables(tests),
        *_command_table(tests),
        *_transition_table(tests, statuses, events),
        *_test_lists(tests),
    ]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the file."""
    sys.path.insert(0, str(ROOT))
    transitions = importlib.import_module("tests.partition_processor.transitions")
    TARGET.write_text(document(transitions.STATUSES, transitions.TABLE), encoding="utf-8")


if __name__ == "__main__":
    main()
