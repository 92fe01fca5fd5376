"""KeyChange: what a put or a delete makes of a register, once, however many rounds it takes."""

from dataclasses import dataclass
from typing import TypeAlias

from ..api import Precondition, PreconditionFailedError, Version
from ..checks import check_precondition
from .registers import Register


@dataclass(frozen=True, slots=True)
class Made:
    """The change made this version; of a delete that had nothing to do, the one that was there."""

    version: Version


@dataclass(frozen=True, slots=True)
class Refused:
    """The precondition does not hold."""

    error: PreconditionFailedError


@dataclass(frozen=True, slots=True)
class Unknown:
    """A round of it may have been made, and too many changes came since to tell."""


Outcome: TypeAlias = Made | Refused | Unknown


class KeyChange:
    """Gives the next state of a register, and recognises its own earlier rounds there.

    A round that did not reach its end may have been completed by somebody else since. Its nonce
    tells: when the version that it was to make was made by it, the change is done; when another
    one made that version, or nobody did, it was not made, and is not as soon as this round is
    chosen. So a change is made at most once.

    Attributes:
        outcome: what it comes to if the round that asked last is chosen.
    """

    def __init__(
        self, key: str, value: bytes | None, precondition: Precondition, nonce: bytes
    ) -> None:
        """Take the new value, None to delete, and a nonce that nobody else has."""
        self.outcome: Outcome = Unknown()
        self._key = key
        self._value = value
        self._precondition = precondition
        self._nonce = nonce
        # Versions that earlier rounds were to make.
        self._tried: list[int] = []

    def __call__(self, register: Register) -> Register:
        """The state to accept next, which may be the one that is there."""
        for version in self._tried:
            if not register.knows_writer_of(version):
                self.outcome = Unknown()
                return register
            if register.was_written_by(self._nonce, version):
                self.outcome = Made(Version(version))
                return register
        actual = None if register.value is None else Version(register.version)
        try:
            check_precondition(self._key, self._precondition, actual)
        except PreconditionFailedError as error:
            self.outcome = Refused(error)
            return register
        if self._value is None and register.value is None:
            self.outcome = Made(Version(register.version))
            return register
        changed = register.changed(self._value, self._nonce)
        self._tried.append(changed.version)
        self.outcome = Made(Version(changed.version))
        return changed


def unchanged(register: Register) -> Register:
    """For a round that is to find out and make certain, and to change nothing."""
    return register
