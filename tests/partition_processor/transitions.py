"""Every status an invocation can have, every event it can meet there, and what comes of it.

`TABLE` is written by hand; `test_transitions.py` compares the interpreter with it, cell by cell,
and ``scripts/protocol_table.py`` puts it into `docs/protocol.md`.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from perdure.core.protocol import messages
from perdure.log.types import Record
from perdure.partition_processor.effects import Done, Notify
from perdure.partition_processor.operations import cancel
from perdure.partition_processor.records import (
    KINDS,
    Attach,
    AttemptChunk,
    AttemptFailed,
    AttemptStarted,
    Command,
    Kill,
    Pause,
    Purge,
    PurgeExpired,
    Respond,
    Restart,
    Resume,
    Signal,
    Timer,
    TimersFired,
    encode_command,
)
from perdure.partition_processor.tables.invocations import Invocation, Sink

from .calls import delivered
from .frames import entry
from .support import END, OUTPUT_OK, RUN, Partition, add, answer, frames, identity

ONE, HOLDER, NEW = identity(1, "k"), identity(9, "k"), identity(10, "k")
SLEEP = entry("SLEEP_COMMAND", wake_up_time=5, result_completion_id=1)
WAITING = entry("SUSPENSION", waiting_completions=[1], waiting_signals=[1])
STEP_DONE = entry("RUN_COMPLETION", completion_id=2, value={})
SINK = Sink(identity(8), 1, messages.ATTACH_INVOCATION_COMPLETION)

STATUSES = (
    "unknown",
    "scheduled",
    "pending",
    "running",
    "suspended",
    "backing-off",
    "paused",
    "completed",
)


def reach(status: str) -> Partition:
    """A partition whose invocation `ONE`, of an object, has this status.

    Where it has begun, it has a SLEEP with the completion id 1 in its journal.
    """
    partition = Partition()
    if status == "unknown":
        return partition
    if status == "scheduled":
        partition.apply(msgspec.structs.replace(add(1), start_ns=9_000_000))
        return partition
    if status == "pending":
        partition.apply(add(9))
    partition.apply(add(1))
    if status == "pending":
        return partition
    if status == "completed":
        partition.apply(answer(ONE, SLEEP))
        return partition
    partition.send(ONE, SLEEP, *([WAITING] if status == "suspended" else []))
    if status == "backing-off":
        partition.apply(AttemptFailed(ONE, 1, 500, "boom", 50, True))
    elif status == "paused":
        partition.apply(Pause(ONE))
    return partition


class Event(NamedTuple):
    """Something that an invocation can meet.

    Attributes:
        command: name of the record's command.
        what: which of the command's cases.
        make: gives the command; told the number of the invocation's last attempt.
        cells: what comes of it, by status in the order of `STATUSES`. A status: it changes to that;
            ``next attempt``: it runs again at once; ``told``: the attempt is sent what came;
            ``stored``: it joins the journal alone; ``joined``: somebody waits for the result now;
            ``changed``: only the row does; ``nothing``: so it is. In brackets, what the client is
            told.
    """

    command: str
    what: str
    make: Callable[[int], Command]
    cells: tuple[str, ...]


def chunk(*items: tuple[int, bytes]) -> Callable[[int], Command]:
    """Frames of the last attempt."""
    return lambda attempt: AttemptChunk(ONE, attempt, "dp-1", frames(*items))


def failed(delay_ns: int | None, *, pause: bool = False) -> Callable[[int], Command]:
    """A failure of the last attempt."""
    return lambda attempt: AttemptFailed(ONE, attempt, 500, "boom", delay_ns, True, pause)


def always(command: Command) -> Callable[[int], Command]:
    """The same command whatever the attempt."""
    return lambda _attempt: command


TABLE: tuple[Event, ...] = (
    Event(
        "Invoke",
        "the same id",
        always(add(1)),
        ("running", "nothing", "nothing", "nothing", "nothing", "nothing", "nothing", "nothing"),
    ),
    Event(
        "AttemptChunk",
        "entries",
        chunk(RUN),
        ("nothing", "nothing", "nothing", "stored", "nothing", "nothing", "nothing", "nothing"),
    ),
    Event(
        "AttemptChunk",
        "OUTPUT and END",
        chunk(OUTPUT_OK, END),
        ("nothing", "nothing", "nothing", "completed", "nothing", "nothing", "nothing", "nothing"),
    ),
    Event(
        "AttemptChunk",
        "SUSPENSION",
        chunk(WAITING),
        ("nothing", "nothing", "nothing", "suspended", "nothing", "nothing", "nothing", "nothing"),
    ),
    Event(
        "AttemptChunk",
        "SUSPENSION for what is there",
        chunk(RUN, STEP_DONE, entry("SUSPENSION", waiting_completions=[2])),
        (
            "nothing",
            "nothing",
            "nothing",
            "next attempt",
            "nothing",
            "nothing",
            "nothing",
            "nothing",
        ),
    ),
    Event(
        "AttemptChunk",
        "a violation",
        chunk(END, END),
        (
            "nothing",
            "nothing",
            "nothing",
            "backing-off",
            "nothing",
            "nothing",
            "nothing",
            "nothing",
        ),
    ),
    Event(
        "AttemptFailed",
        "to be tried again",
        failed(50),
        (
            "nothing",
            "nothing",
            "nothing",
            "backing-off",
            "nothing",
            "nothing",
            "nothing",
            "nothing",
        ),
    ),
    Event(
        "AttemptFailed",
        "to be paused",
        failed(None, pause=True),
        ("nothing", "nothing", "nothing", "paused", "nothing", "nothing", "nothing", "nothing"),
    ),
    Event(
        "AttemptFailed",
        "for good",
        failed(None),
        ("nothing", "nothing", "nothing", "completed", "nothing", "nothing", "nothing", "nothing"),
    ),
    Event(
        "AttemptStarted",
        "",
        lambda attempt: AttemptStarted(ONE, attempt + 1),
        ("nothing", "nothing", "nothing", "nothing", "nothing", "running", "nothing", "nothing"),
    ),
    Event(
        "TimersFired",
        "its start",
        always(TimersFired((Timer(9_000_000, ONE, 0),))),
        ("nothing", "running", "nothing", "nothing", "nothing", "nothing", "nothing", "nothing"),
    ),
    Event(
        "TimersFired",
        "a sleep",
        always(TimersFired((Timer(5_000_000, ONE, 1),))),
        ("nothing", "nothing", "nothing", "told", "running", "stored", "stored", "nothing"),
    ),
    Event(
        "Signal",
        "a cancellation",
        always(cancel(ONE)),
        (
            "nothing (not found)",
            "completed (done)",
            "completed (done)",
            "told (done)",
            "running (done)",
            "stored (done)",
            "running (done)",
            "nothing (completed)",
        ),
    ),
    Event(
        "Signal",
        "another one",
        always(Signal(ONE, 17, "", b"1", None)),
        (
            "nothing (not found)",
            "nothing (unchanged)",
            "nothing (unchanged)",
            "told (done)",
            "stored (done)",
            "stored (done)",
            "stored (done)",
            "nothing (completed)",
        ),
    ),
    Event(
        "Respond",
        "that is waited for",
        always(delivered(Respond(ONE, 1, messages.SLEEP_COMPLETION, None, None))),
        ("nothing", "nothing", "nothing", "told", "running", "stored", "stored", "nothing"),
    ),
    Event(
        "Attach",
        "waiting",
        always(delivered(Attach(ONE, SINK, True))),
        ("nothing", "joined", "joined", "joined", "joined", "joined", "joined", "nothing"),
    ),
    Event(
        "Kill",
        "",
        always(Kill(ONE)),
        (
            "nothing (not found)",
            "completed (done)",
            "completed (done)",
            "completed (done)",
            "completed (done)",
            "completed (done)",
            "completed (done)",
            "nothing (completed)",
        ),
    ),
    Event(
        "Pause",
        "",
        always(Pause(ONE)),
        (
            "nothing (not found)",
            "nothing (unchanged)",
            "nothing (unchanged)",
            "paused (done)",
            "nothing (unchanged)",
            "paused (done)",
            "nothing (unchanged)",
            "nothing (completed)",
        ),
    ),
    Event(
        "Resume",
        "",
        always(Resume(ONE)),
        (
            "nothing (not found)",
            "nothing (unchanged)",
            "nothing (unchanged)",
            "nothing (unchanged)",
            "running (done)",
            "running (done)",
            "running (done)",
            "nothing (completed)",
        ),
    ),
    Event(
        "Purge",
        "",
        always(Purge(ONE)),
        (
            "nothing (not found)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (not completed)",
            "unknown (done)",
        ),
    ),
    Event(
        "Purge",
        "its journal only",
        always(Purge(ONE, True)),
        (
            "nothing (not found)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (not completed)",
            "changed (done)",
        ),
    ),
    Event(
        "PurgeExpired",
        "",
        always(PurgeExpired(1 << 62, 10)),
        ("nothing", "nothing", "nothing", "nothing", "nothing", "nothing", "nothing", "unknown"),
    ),
    Event(
        "Restart",
        "under a new id",
        always(Restart(ONE, NEW, 1, None, 1, 1)),
        (
            "nothing (not found)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (not completed)",
            "nothing (done)",
        ),
    ),
)


def observe(event: Event, status: str) -> str:
    """What the interpreter makes of the event in this status, as `Event.cells` says it."""
    partition = reach(status)
    assert partition.status(ONE) == status
    before = partition.transaction.invocation(ONE)
    command = event.make(0 if before is None else before.attempt)
    record = Record(KINDS[type(command)], encode_command(command), (), 1, None, 1)
    effects = partition.apply_records([record], time_ns=9_000_000)
    partition.counts()
    after = partition.transaction.invocation(ONE)
    outcomes = [f" ({item.outcome})" for item in effects if isinstance(item, Done)]
    was_told = any(isinstance(item, Notify) and item.invocation_id == ONE for item in effects)
    return _change(before, after, partition.status(ONE), was_told) + "".join(outcomes)


def _change(
    before: Invocation | None, after: Invocation | None, status: str, was_told: bool
) -> str:
    if before is None or after is None:
        return "nothing" if before is after else status
    if before.status != after.status:
        return status
    if after.attempt > before.attempt:
        return "next attempt"
    if was_told:
        return "told"
    if after.entries > before.entries:
        return "stored"
    if len(after.sinks) > len(before.sinks):
        return "joined"
    return "nothing" if after == before else "changed"
