"""Whether a recorded history of one object could have happened one operation after the other.

The search is Wing and Gong's with Lowe's memory of configurations: take, one after the other,
operations that began before every other open one returned, and go back when the model says no.

A history holds the operations of one object; histories of several keys are checked key by key.
What an operation answered is told by its `result`. An operation without one may have taken effect
or not: before `returned_at` when it has one (it was cancelled, and settled by then), at any later
time when it has none (it may still be under way).
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Call = TypeVar("Call")
Result = TypeVar("Result")
State = TypeVar("State", bound=Hashable)
CallIn = TypeVar("CallIn", contravariant=True)
ResultIn = TypeVar("ResultIn", contravariant=True)

CONFIGURATIONS_MAX = 1_000_000
"""How many configurations a search may visit; histories of tests need a few hundred."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[Call, Result]):
    """One call of one client, between two instants of one clock; no instant is used twice."""

    client: str
    call: Call
    result: Result | None
    called_at: int
    returned_at: int | None

    def __post_init__(self) -> None:
        """Refuse what no recorder may record."""
        assert self.returned_at is not None or self.result is None, "a result comes with a return"
        assert self.returned_at is None or self.called_at < self.returned_at, self

    def __str__(self) -> str:
        """One line of a history."""
        end = "…" if self.returned_at is None else str(self.returned_at)
        answer = "unknown" if self.result is None else str(self.result)
        return f"[{self.called_at:>4} - {end:>4}] {self.client}: {self.call} -> {answer}"


class Model(Protocol[CallIn, ResultIn, State]):
    """What one object does when its operations come one after the other."""

    def initial(self) -> State:
        """The state before the first operation."""
        ...

    def after(self, state: State, call: CallIn, result: ResultIn | None) -> Iterable[State]:
        """The states that `call` may leave behind `state`, having answered `result`.

        None at all means that it cannot have answered so. A `result` of None is unknown: then the
        states are those of a call that took effect, for one that did not is left out anyway.
        """
        ...


class NotLinearizableError(AssertionError):
    """No order of the operations explains what they answered; the message shows the nearest."""


class UndecidedError(AssertionError):
    """The search visited more configurations than it may."""


def linearize(
    model: Model[Call, Result, State],
    history: Iterable[Operation[Call, Result]],
    *,
    note: str = "",
    configurations_max: int = CONFIGURATIONS_MAX,
) -> list[Operation[Call, Result]]:
    """An order in which the operations may have taken effect.

    Operations of unknown result that took no effect are left out. Raises NotLinearizableError with
    `note` and the whole history in it, and UndecidedError.
    """
    search = _Search(sorted(history, key=lambda operation: operation.called_at))
    first = _Configuration(0, model.initial(), -1, None, None)
    stack = [first]
    seen = {(first.done, first.state)}
    furthest = first
    while stack:
        configuration = stack.pop()
        if search.is_complete(configuration.done):
            return search.order(configuration)
        if configuration.done.bit_count() > furthest.done.bit_count():
            furthest = configuration
        # The stack gives the last one back first.
        for index in reversed(search.candidates(configuration)):
            operation = search.operations[index]
            done = configuration.done | 1 << index
            latest_call = max(configuration.latest_call, operation.called_at)
            for state in model.after(configuration.state, operation.call, operation.result):
                if (done, state) in seen:
                    continue
                if len(seen) >= configurations_max:
                    raise UndecidedError(
                        f"{note}: {configurations_max} configurations were not enough"
                    )
                seen.add((done, state))
                stack.append(_Configuration(done, state, latest_call, index, configuration))
    raise NotLinearizableError(search.explanation(furthest, note))


@dataclass(frozen=True, slots=True)
class _Configuration(Generic[State]):
    """Which operations took effect (a bit each), what they left, and how the search got there."""

    done: int
    state: State
    latest_call: int
    last: int | None
    before: "_Configuration[State] | None"


class _Search(Generic[Call, Result]):
    """What a search asks of a history, in the order of its calls."""

    def __init__(self, operations: Sequence[Operation[Call, Result]]) -> None:
        self.operations = operations
        self.by_return = sorted(
            (operation.returned_at, index)
            for index, operation in enumerate(operations)
            if operation.result is not None and operation.returned_at is not None
        )
        self.required = sum(1 << index for _, index in self.by_return)

    def is_complete(self, done: int) -> bool:
        """Whether every operation that answered is among those done."""
        return done & self.required == self.required

    def candidates(self, configuration: "_Configuration[State]") -> list[int]:
        """Operations that may take effect next: those with an answer first, soonest return first.

        An operation of unknown result comes last, because most of them are not needed; and not at
        all once an operation took effect that was called after it had ended.
        """
        done = configuration.done
        limit = next(at for at, index in self.by_return if not done >> index & 1)
        answered: list[tuple[int, int]] = []
        unknown: list[int] = []
        for index, operation in enumerate(self.operations):
            if operation.called_at > limit:
                break
            if done >> index & 1:
                continue
            end = operation.returned_at
            if operation.result is None:
                if end is None or end > configuration.latest_call:
                    unknown.append(index)
            elif end is not None:
                answered.append((end, index))
        return [index for _, index in sorted(answered)] + unknown

    def order(self, configuration: "_Configuration[State]") -> list[Operation[Call, Result]]:
        """The operations on the way to a configuration."""
        indexes: list[int] = []
        step: _Configuration[State] | None = configuration
        while step is not None:
            if step.last is not None:
                indexes.append(step.last)
            step = step.before
        return [self.operations[index] for index in reversed(indexes)]

    def explanation(self, furthest: "_Configuration[State]", note: str) -> str:
        """What a person needs to see why there is no order."""
        stuck = [self.operations[index] for index in self.candidates(furthest)]
        return "\n".join(
            [
                f"{note}: no order of these operations explains their answers",
                *map(str, self.operations),
                f"the longest order ends in {furthest.state}:",
                *map(str, self.order(furthest)),
                "and none of these can be next:",
                *map(str, stuck),
            ]
        )


@dataclass(frozen=True, slots=True)
class Write:
    """Write `value` if the register's version is `expected`; None writes in any case.

    With `or_older` a lower version will do as well: "nothing was written after `expected`", which
    is how a conditional append asks.
    """

    value: Hashable
    expected: int | None = None
    or_older: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """Ask for the register's version and value."""


@dataclass(frozen=True, slots=True)
class Written:
    """The write took effect and gave the register this version, higher than every one before."""

    version: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """The write took no effect, as the register had come to this version or to a higher one."""

    actual: int


@dataclass(frozen=True, slots=True)
class Held:
    """What a read found."""

    version: int
    value: Hashable


@dataclass(frozen=True, slots=True)
class CasState:
    """A register whose version is `version`, or when not `exact`, that or any higher one.

    A write whose answer nobody got leaves a version that nobody knows until it is seen.
    """

    version: int
    exact: bool
    value: Hashable


class CasRegister:
    """The model of a register that is written by compare-and-set, as one key of a log is.

    Versions go up and never come back; they need not be dense. A conflict may name any version
    that the register has reached and that breaks the condition, not only the latest.
    """

    def __init__(self, version: int = 0, value: Hashable = None) -> None:
        """Take what the register holds at first."""
        self._initial = CasState(version, True, value)

    def initial(self) -> CasState:
        """What the register holds at first."""
        return self._initial

    def after(
        self, state: CasState, call: Write | Read, result: Written | Conflict | Held | None
    ) -> list[CasState]:
        """The states after `call`; see `Model`."""
        match call, result:
            case Read(), Held(version, value):
                return [known for known in _seen(state, version) if value == known.value]
            case Read(), None:
                return [state]
            case Write(value), Written(version):
                before = _admitting(state, call)
                return [CasState(version, True, value) for held in before if version > held.version]
            case Write(value), None:
                return [
                    CasState(held.version + 1, False, value) for held in _admitting(state, call)
                ]
            case Write(), Conflict(actual):
                # The version that is named has to break the condition itself.
                named = CasState(actual, True, state.value)
                return [] if _admitting(named, call) else _reached(state, actual, call)
            case _:
                raise AssertionError(f"{call} does not answer {result}")


def _seen(state: CasState, version: int) -> list[CasState]:
    """The state in which the register's version is `version`, if it can be."""
    if version == state.version or (not state.exact and version > state.version):
        return [CasState(version, True, state.value)]
    return []


def _admitting(state: CasState, write: Write) -> list[CasState]:
    """The states in which the condition of `write` holds."""
    if write.expected is None:
        return [state]
    if not write.or_older:
        return _seen(state, write.expected)
    # What is known of a version that nobody saw stays: it is `version` or above.
    return [state] if state.version <= write.expected else []


def _reached(state: CasState, actual: int, write: Write) -> list[CasState]:
    """The states in which the register has come to `actual` and refuses `write`."""
    if not state.exact:
        return [CasState(max(state.version, actual), False, state.value)]
    return [state] if state.version >= actual and not _admitting(state, write) else []
