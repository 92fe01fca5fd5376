"""What handlers of a history meet: steps with side effects, the outside, and a witness.

The witness hears everything that a handler saw, and compares it with what other attempts of the
same invocation saw in the same place of the code: durable execution is that they never differ.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from ...core.hashing import workflow_invocation_id
from ...core.ids import InvocationId, parse_awakeable_id
from ...sdk.context import Context
from ...sdk.errors import RetryableError, TerminalError
from ..simulation.violation import require

TRANSIENT: Final = "a step that fails on purpose"
REPLAY_DIFFERS: Final = "replay gives what was seen before"


class StageHost(Protocol):
    """A worker, as handlers see it."""

    stage: "Stage"


class Stage:
    """Everything that handlers of one history share.

    Attributes:
        awakeables: ids that handlers wait for.
        signals: (invocation, name, place in its program) that handlers wait for.
        promises: (workflow, key, name) that handlers wait for.
        tries: how often steps ran.
        answers: what calls gave: (result), to be compared with what was recorded.
    """

    def __init__(self) -> None:
        """Start before anything was seen."""
        self.awakeables: dict[str, bool] = {}
        self.signals: dict[tuple[InvocationId, str, str], bool] = {}
        self.promises: dict[tuple[str, str, str], bool] = {}
        self.answers: list[bytes] = []
        self.tries = 0
        self.looks = 0
        self._failed: dict[tuple[InvocationId, str], int] = {}
        self._seen: dict[InvocationId, dict[str, str]] = {}
        self._forgotten: set[InvocationId] = set()

    def step(
        self, invocation_id: InvocationId, path: str, failures: int, terminal: bool, pad: int
    ) -> Callable[[], bytes]:
        """A closure that fails so many times first; no two tries give the same value."""

        def act() -> bytes:
            self.tries += 1
            place = (invocation_id, path)
            failed = self._failed.get(place, 0)
            if failed < failures:
                self._failed[place] = failed + 1
                raise RetryableError(TRANSIENT)
            if terminal:
                raise TerminalError(f"step fails for good, try {self.tries}", 418)
            return f"try {self.tries}".encode().ljust(pad, b".")

        return act

    def saw(self, invocation_id: InvocationId, path: str, outcome: str) -> None:
        """A handler saw this in this place; what it saw before must have been the same."""
        self.looks += 1
        if invocation_id in self._forgotten:
            return  # Its id may be in use again; an attempt of the old one may still run.
        seen = self._seen.setdefault(invocation_id, {})
        before = seen.setdefault(path, outcome)
        require(
            before == outcome,
            REPLAY_DIFFERS,
            f"{invocation_id.hex()} at {path}: {before!r} before, {outcome!r} now",
        )

    def forget(self, invocation_id: InvocationId) -> None:
        """The invocation was purged, so that its id may begin again, and wait again."""
        self._forgotten.add(invocation_id)
        for signal in self.signals:
            if signal[0] == invocation_id:
                self.signals[signal] = False
        for awakeable in self.awakeables:
            if parse_awakeable_id(awakeable)[0] == invocation_id:
                self.awakeables[awakeable] = False
        for workflow, key, name in self.promises:
            if workflow_invocation_id(workflow, key) == invocation_id:
                self.promises[workflow, key, name] = False


def stage_of(context: Context) -> Stage:
    """The stage that a handler runs on."""
    host = cast("Any", context)._attempt._host
    return cast("StageHost", host).stage
