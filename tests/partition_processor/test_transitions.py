"""Each status meets each event: the interpreter does what the table of transitions says."""

import pytest

from perdure.partition_processor.effects import EndAttempt, StartAttempt
from perdure.partition_processor.records import KIND_NAMES
from perdure.partition_processor.tables.invocations import STATUS_NAMES

from ..covering import covers
from .transitions import ONE, STATUSES, TABLE, Event, observe, reach

WITHOUT_INVOCATION = {
    "AnnounceLeader",
    "CompareDigest",
    "Deliver",
    "Once",
    "PatchState",
    "TruncateOutbox",
}
"""Commands that are not about one invocation."""


@covers(
    "Invoke",
    "AttemptChunk",
    "AttemptFailed",
    "AttemptStarted",
    "TimersFired",
    "Signal",
    "Respond",
    "Attach",
    "Kill",
    "Pause",
    "Resume",
    "Purge",
    "PurgeExpired",
    "Restart",
)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("event", TABLE, ids=lambda event: f"{event.command} {event.what}")
def test_every_event_does_in_every_status_what_the_table_says(event: Event, status: str) -> None:
    assert observe(event, status) == event.cells[STATUSES.index(status)]


def test_the_table_of_transitions_leaves_no_status_and_no_command_out() -> None:
    assert {status for status in STATUSES if status != "unknown"} == set(STATUS_NAMES)
    assert {event.command for event in TABLE} == set(KIND_NAMES.values()) - WITHOUT_INVOCATION
    assert all(len(event.cells) == len(STATUSES) for event in TABLE)


@pytest.mark.parametrize("event", TABLE, ids=lambda event: f"{event.command} {event.what}")
def test_whatever_leaves_running_ends_the_attempt_and_whatever_enters_it_starts_one(
    event: Event,
) -> None:
    for status in STATUSES:
        partition = reach(status)
        before = partition.transaction.invocation(ONE)
        effects = partition.apply(
            event.make(0 if before is None else before.attempt), time_ns=9_000_000
        )
        became = event.cells[STATUSES.index(status)].split(" ")[0]
        started = [item for item in effects if isinstance(item, StartAttempt)]
        ended = [item for item in effects if isinstance(item, EndAttempt)]
        if became == "running":
            assert [item.invocation_id for item in started] == [ONE], status
        if status == "running" and became not in ("nothing", "told", "stored", "joined"):
            assert [item.invocation_id for item in ended] == [ONE], event
        active = [key[1:] for key in partition.rows(b"a")]
        assert (ONE in active) == (partition.status(ONE) in ("running", "backing-off"))
