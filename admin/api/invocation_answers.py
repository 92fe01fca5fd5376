"""What admin REST tells about invocations; the command line reads the same types."""

from typing import Any, Literal

import msgspec

from .missing import Missing


class FailureView(msgspec.Struct, frozen=True):
    """A terminal failure."""

    code: int
    message: str
    metadata: dict[str, str] = {}


class InvocationRow(msgspec.Struct, frozen=True):
    """One invocation, as ``perdure invocations list`` shows it; instants are ISO 8601.

    Attributes:
        target: ``Service/handler`` or ``Object/key/handler``.
        status: ``scheduled``, ``pending``, ``ready``, ``running``, ``backing-off``, ``suspended``,
            ``paused`` or ``completed``.
        modified: when the status changed last.
        attempt: number of the current or last one, 0 before the first.
        failed_attempts: failures that the retry policy counts now.
        starts: when a scheduled one starts.
        next_retry: when one that backs off tries again.
        last_failure: of the last failed attempt.
        deployment: what it is pinned to.
        failure: of a completed one that failed.
    """

    id: str
    target: str
    service: str
    handler: str
    key: str | None
    status: str
    created: str
    modified: str
    attempt: int
    failed_attempts: int
    starts: str | None
    next_retry: str | None
    last_failure: str | None
    deployment: str | None
    idempotency_key: str | None
    failure: FailureView | None


class InvocationsPage(msgspec.Struct, frozen=True):
    """Some invocations.

    Attributes:
        next: where to go on with ``after``, None when all were looked at.
        looked_at: how many invocations this page has looked at.
        now: the node's wall clock.
        missing: what could not be asked; the next page leaves out what this one had of it.
    """

    invocations: list[InvocationRow]
    next: str | None
    looked_at: int
    now: str
    missing: list[Missing] = []


class ValueView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A value that somebody's code has given: as JSON where it is JSON, else as base64.

    Attributes:
        bytes: its length.
    """

    bytes: int
    json: Any = msgspec.UNSET
    base64: str | None = None
    too_long: bool = False


class ResultView(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a command came to: one of the fields; with none of them, nothing (void)."""

    value: ValueView | None = None
    failure: FailureView | None = None
    invocation: str | None = None
    state_keys: list[str] | None = None


class EntryView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of a journal.

    Attributes:
        entry: such as ``Call``, or ``SleepCompletion``.
        details: a line for people.
        fields: what the entry says, by the protocol's names.
        result: of a command, once it is there; of a notification, what it brings.
        completed: when the result came.
        duration_ms: from the command to its result.
        completes: of a notification, the index of the command it belongs to.
    """

    index: int
    entry: str
    name: str
    details: str
    time: str
    attempt: int
    fields: dict[str, Any] = {}
    result: ResultView | None = None
    completed: str | None = None
    duration_ms: float | None = None
    completes: int | None = None


class EventView(msgspec.Struct, frozen=True):
    """One failed attempt, or a pause.

    Attributes:
        entries: length of the journal then.
        command: at which it happened, such as ``Run "charge"`` and its index, None when not known.
        next_retry: when the next attempt was due, None when none was.
    """

    kind: Literal["failed", "paused"]
    time: str
    attempt: int
    entries: int
    code: int
    message: str
    command: str | None
    command_index: int | None
    stacktrace: str
    next_retry: str | None
    deployment: str | None


class WaitView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that an invocation waits for; any one of them wakes it.

    Attributes:
        kind: ``sleep``, ``call``, ``promise``, ``step``, ``attach``, ``awakeable``, ``signal``,
            ``cancellation`` or ``completion``.
        text: for people.
        entry: index of the command.
        until: of a sleep.
        invocation: of a call or an attach.
        awakeable: its id.
        name: of a promise, a step or a signal.
    """

    kind: str
    text: str
    entry: int | None = None
    until: str | None = None
    invocation: str | None = None
    awakeable: str | None = None
    name: str | None = None


class RelatedView(msgspec.Struct, frozen=True):
    """Another invocation.

    Attributes:
        how: what links the two.
        target: None where nobody knows it any more, or the node that does has not told in time.
    """

    id: str
    how: str
    target: str | None
    status: str | None


class InboxView(msgspec.Struct, frozen=True):
    """An object that an invocation waits for.

    Attributes:
        holder: who has the lock.
        place: how many others come first, the holder not counted.
    """

    holder: RelatedView
    place: int


class InvocationDetail(msgspec.Struct, frozen=True):
    """One invocation in full, as ``perdure invocations describe`` shows it.

    Attributes:
        retries_since_entry: failures since the journal last grew.
        expires: when a completed one is forgotten.
        parent: who asked for it, None for a front door.
        restarted_from: whom it repeats.
        waits_for: open or, of a suspended one, what would wake it.
        waiters: who waits for its result.
        clients: how many clients of its leader's node wait for it besides.
        inbox: of a pending one.
        output: of a completed one that did not fail.
        entries: length of the whole journal.
        journal: a part of it; `next_entry` is where to go on, None at the end.
        events: the last ones.
    """

    invocation: InvocationRow
    retries_since_entry: int
    started_by: RelatedView | None
    restarted_from: RelatedView | None
    traceparent: str | None
    completed: str | None
    expires: str | None
    completion_retention: str
    journal_retention: str
    waits_for: list[WaitView]
    waiters: list[RelatedView]
    clients: int
    inbox: InboxView | None
    output: ValueView | None
    entries: int
    journal: list[EntryView]
    next_entry: int | None
    events: list[EventView]
    now: str


class OperationResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of an operation on one invocation.

    Attributes:
        outcome: ``done`` or why nothing was changed.
        ok: whether it is as it was asked for.
        message: a sentence for people.
        new_id: of the invocation that a restart has made.
        code: of the error that kept it from being done.
    """

    id: str
    outcome: str
    ok: bool
    message: str
    new_id: str | None = None
    code: str | None = None


class OperationAnswer(msgspec.Struct, frozen=True):
    """The results, in the order of the ids; an id given twice counts once."""

    results: list[OperationResult]
