"""How the commands of a partition's log are shown: in a line, and field by field."""

import msgspec
import pytest

from perdure.admin.api.record_fields import ITEMS_SHOWN
from perdure.admin.api.record_view import is_about, view_record
from perdure.admin.api.times import time_text
from perdure.core.ids import InvocationId, invocation_id_text
from perdure.core.protocol import messages
from perdure.log.types import Record
from perdure.partition_processor.records import (
    COMMAND_TYPES,
    KINDS,
    AnnounceLeader,
    Attach,
    AttemptChunk,
    AttemptFailed,
    AttemptStarted,
    Command,
    CompareDigest,
    Deliver,
    Invoke,
    Kill,
    Once,
    PatchState,
    Pause,
    Purge,
    PurgeExpired,
    Respond,
    Restart,
    Resume,
    Signal,
    Timer,
    TimersFired,
    TruncateOutbox,
    encode_command,
)
from perdure.partition_processor.tables.invocations import Failure, Sink

ONE, TWO = InvocationId(b"1" * 24), InvocationId(b"2" * 24)
ONE_TEXT, TWO_TEXT = invocation_id_text(ONE), invocation_id_text(TWO)
NOON_NS = 1_700_000_000 * 10**9
NOON = "2023-11-14T22:13:20.000000000Z"
SINK = Sink(TWO, 7, messages.CALL_COMPLETION)

LINES: list[tuple[Command, str]] = [
    (
        Invoke(ONE, "Counter", "add", "ann", 1, b"", start_ns=NOON_NS, sink=SINK, parent=TWO),
        f"Counter/ann/add at {NOON} for {TWO_TEXT}",
    ),
    (AttemptChunk(ONE, 1, "dp", b""), ""),
    (AttemptFailed(ONE, 1, 500, "no", 2 * 10**9, True), "then another in 2 s"),
    (AttemptFailed(ONE, 1, 500, "no", None, True), "then it fails"),
    (AttemptFailed(ONE, 1, 500, "no", None, True, pause=True), "then it is paused"),
    (AttemptStarted(ONE, 2), ""),
    (AnnounceLeader("node-1", 3), "node-1 leads under epoch 3"),
    (
        TimersFired((Timer(NOON_NS, ONE, 0), Timer(NOON_NS, TWO, 4))),
        f"start of {ONE_TEXT} due {NOON}; sleep 4 of {TWO_TEXT} due {NOON}",
    ),
    (Signal(ONE, 1, "", None, None), "cancellation"),
    (Signal(ONE, 0, "go", b'"now"', None), 'signal "go": "now"'),
    (Signal(ONE, 1 << 40, "", None, None), f"signal {1 << 40}: void"),
    (
        Respond(ONE, 3, messages.SLEEP_COMPLETION, None, Failure(409, "late")),
        "SleepCompletion 3: failure [409] late",
    ),
    (Attach(ONE, SINK, True), f"CallCompletion 7 of {TWO_TEXT} waits for the result"),
    (Attach(ONE, SINK, False), f"CallCompletion 7 of {TWO_TEXT} asks for the result"),
    (Kill(ONE), ""),
    (Pause(ONE), ""),
    (Resume(ONE, "dp-2"), "on dp-2"),
    (Purge(ONE, journal_only=True), "the journal"),
    (Purge(ONE), "everything"),
    (Restart(ONE, TWO, 3, "dp-2", 1, 1), f"as {TWO_TEXT} with 3 entries kept on dp-2"),
    (
        PatchState(bytes(8), "Counter", "ann", ((b"a", b"1"), (b"b", None)), True, b"\x01" * 16),
        f"Counter/ann: a = 1; b cleared; everything else cleared; if of version {'01' * 16}",
    ),
    (PurgeExpired(NOON_NS, 5), f"up to 5 that expired before {NOON}"),
    (
        Deliver(2, 8, ((KINDS[Kill], encode_command(Kill(ONE))), (8, b"?"), (99, b""))),
        f"partition 2, 8 to 10: Kill {ONE_TEXT}; Respond that cannot be read; "
        "kind 99 that cannot be read",
    ),
    (TruncateOutbox(3, 12), "partition 3 has taken everything up to 12"),
    (CompareDigest(256, bytes(16)), f"the leader had digest {'00' * 16} at LSN 256"),
    (Once(bytes(16), KINDS[Kill], encode_command(Kill(ONE))), f"Kill {ONE_TEXT}"),
    (Once(bytes(16), 99, b"?"), "kind 99 that cannot be read"),
]


def record(command: Command) -> Record:
    """A command's record."""
    return Record(KINDS[type(command)], encode_command(command), (), 1, None, 0)


@pytest.mark.parametrize(("command", "line"), LINES)
def test_every_kind_has_a_line_and_fields_that_json_can_hold(command: Command, line: str) -> None:
    view = view_record(1, 1, NOON_NS, record(command))

    assert (view.detail or "", view.problem) == (line, None)
    assert isinstance(msgspec.json.decode(msgspec.json.encode(view))["fields"], dict)


def test_the_list_above_has_every_kind() -> None:
    assert {type(command) for command, _ in LINES} == set(COMMAND_TYPES.values())


def test_fields_say_what_the_command_says() -> None:
    invoke = Invoke(
        ONE, "Counter", "add", "ann", 1, b"", idempotency_key="i", start_ns=NOON_NS, sink=SINK,
        held=(b"\x01\x02",),
    )  # fmt: skip
    signal = Signal(TWO, 0, "go", b'{"a":1}', None)
    nested = Deliver(2, 8, ((KINDS[Signal], encode_command(signal)),))

    def fields(command: Command) -> dict[str, object]:
        view = view_record(1, 1, NOON_NS, record(command))
        shown: dict[str, object] = msgspec.json.decode(msgspec.json.encode(view))["fields"]
        return shown

    shown = fields(invoke)
    assert shown["invocation_id"] == ONE_TEXT
    assert (shown["start_ns"], shown["idempotency_key"]) == (NOON, "i")
    assert shown["sink"] == {
        "invocation_id": TWO_TEXT,
        "completion_id": 7,
        "frame_type": messages.CALL_COMPLETION,
        "born_lsn": 0,
    }
    assert shown["held"] == ["0102"]
    assert "parent" not in shown
    assert fields(nested)["messages"] == [
        {
            "kind": "Signal",
            "invocation_id": TWO_TEXT,
            "index": 0,
            "name": "go",
            "value": {"bytes": 7, "json": {"a": 1}},
        }
    ]


def test_a_record_is_about_everything_that_it_touches() -> None:
    third = InvocationId(b"3" * 24)
    nested = Deliver(2, 8, ((KINDS[Kill], encode_command(Kill(ONE))),))

    assert is_about(record(nested), ONE)
    assert is_about(record(TimersFired((Timer(1, ONE, 0), Timer(1, TWO, 1)))), TWO)
    assert is_about(record(Restart(ONE, TWO, 1, None, 1, 1)), ONE)
    assert is_about(record(Restart(ONE, TWO, 1, None, 1, 1)), TWO)
    # Whom it merely names it does nothing to.
    assert not is_about(record(Attach(ONE, SINK, True)), TWO)
    assert not is_about(record(nested), third)


def test_long_lists_are_cut() -> None:
    fired = TimersFired(tuple(Timer(NOON_NS, ONE, n) for n in range(1, ITEMS_SHOWN + 8)))
    view = view_record(1, 1, NOON_NS, record(fired))

    assert view.detail is not None
    assert len(view.detail) <= 2000
    assert view.fields is not None
    assert len(view.fields["timers"]) == ITEMS_SHOWN


def test_instants_beyond_the_calendar_are_its_last_second() -> None:
    assert time_text(2**63) == "2262-04-11T23:47:16.854775808Z"
    assert time_text(2**80) == "9999-12-31T23:59:59.000000000Z"
