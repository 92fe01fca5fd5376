"""The model of one metadata key: a versioned register that can be deleted and put again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from perdure.metadata import (
    DoesNotExist,
    MatchesVersion,
    MetadataStore,
    Precondition,
    PreconditionFailedError,
)


@dataclass(frozen=True, slots=True)
class Get:
    """Read the key."""


@dataclass(frozen=True, slots=True)
class Put:
    """Store a value."""

    value: bytes
    precondition: Precondition = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove the value."""

    precondition: Precondition = None


@dataclass(frozen=True, slots=True)
class Look:
    """Find out whether the key has a value, by listing."""


Call: TypeAlias = Get | Put | Delete | Look


@dataclass(frozen=True, slots=True)
class Found:
    """A read that found a value."""

    version: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Missing:
    """A read that found none."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A put that was made."""

    version: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """A delete that was made, or had nothing to do."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A change whose precondition did not hold, as this version was there."""

    actual: int | None


@dataclass(frozen=True, slots=True)
class Listed:
    """Whether a listing had the key."""

    present: bool


Result: TypeAlias = Found | Missing | Stored | Deleted | Refused | Listed


async def answers_of(
    store: MetadataStore, key: str, call: Call, *, keys: Sequence[str], prefix: str = ""
) -> dict[str, Result]:
    """Make a call to a store that has no other `keys` than these; what it tells of which keys."""
    try:
        match call:
            case Get():
                held = await store.get(key)
                return {key: Found(held.version, held.value) if held else Missing()}
            case Look():
                names = await store.keys(prefix)
                assert names == sorted(set(names) & set(keys)), names
                return {name: Listed(name in names) for name in keys}
            case Put(value, precondition):
                return {key: Stored(await store.put(key, value, precondition))}
            case Delete(precondition):
                await store.delete(key, precondition)
                return {key: Deleted()}
    except PreconditionFailedError as refused:
        return {key: Refused(refused.actual)}


@dataclass(frozen=True, slots=True)
class Register:
    """A key's value, or None, and the version of its last put.

    That is `version`, or when not `exact`, `version` or any higher one: a put whose answer nobody
    got leaves a version that nobody knows until it is seen.
    """

    value: bytes | None
    version: int
    exact: bool


class VersionedRegister:
    """The model: versions go up with every put, over deletes too, and need not be dense."""

    def initial(self) -> Register:
        """Never put."""
        return Register(None, 0, True)

    def after(self, state: Register, call: Call, result: Result | None) -> list[Register]:
        """The states after `call`; see `linearizability.Model`."""
        match call, result:
            case ((Get() | Look()), None):
                return [state]
            case Get(), Missing():
                return [state] if state.value is None else []
            case Get(), Found(version, value):
                return [held for held in _at(state, version) if held.value == value]
            case Look(), Listed(present):
                return [state] if present == (state.value is not None) else []
            case Put(value), Stored(version):
                before = _holding(state, call.precondition)
                return [Register(value, version, True) for held in before if version > held.version]
            case Put(value), None:
                before = _holding(state, call.precondition)
                return [Register(value, held.version + 1, False) for held in before]
            case Delete(), (Deleted() | None):
                before = _holding(state, call.precondition)
                return [Register(None, held.version, held.exact) for held in before]
            case ((Put() | Delete()), Refused(actual)):
                return _refusing(state, call.precondition, actual)
            case _:
                raise AssertionError(f"{call} does not answer {result}")


def _at(state: Register, version: int) -> list[Register]:
    """The state in which there is a value of this version, if there can be."""
    if state.value is None or version < state.version:
        return []
    if state.exact and version != state.version:
        return []
    return [Register(state.value, version, True)]


def _holding(state: Register, precondition: Precondition) -> list[Register]:
    match precondition:
        case None:
            return [state]
        case DoesNotExist():
            return [state] if state.value is None else []
        case MatchesVersion(version):
            return _at(state, version)


def _refusing(state: Register, precondition: Precondition, actual: int | None) -> list[Register]:
    """The states in which the precondition does not hold because of what is there."""
    match precondition:
        case None:
            return []
        case DoesNotExist():
            holds = actual is None
        case MatchesVersion(version):
            holds = actual == version
    if holds:
        return []
    if actual is None:
        return [state] if state.value is None else []
    return _at(state, actual)
