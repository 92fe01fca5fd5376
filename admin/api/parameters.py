"""Reading what an admin request brings along: path numbers, query values, JSON bodies."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from ..errors import AdminRequestError

NUMBER_MAX: Final = (1 << 64) - 1
PARTITIONS_TEXT_MAX: Final = 512 * 1024
"""Longer than the numbers of all partitions that a cluster may have."""
_DIGITS_MAX: Final = 20
_TEXT_SHOWN: Final = 64
_Read = TypeVar("_Read")
_Body = TypeVar("_Body")


class Parameters:
    """The query of one request. Whatever is not understood is refused, so that nobody acts on an
    answer to another question.
    """

    def __init__(self, query: str, allowed: Sequence[str]) -> None:
        """Take the text behind the question mark. Raises AdminRequestError."""
        self._values: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in allowed:
                raise AdminRequestError(
                    f"{name[:_TEXT_SHOWN]!r} is no parameter here; there are {', '.join(allowed)}"
                )
            if name in self._values:
                raise AdminRequestError(f"{name} is given twice; give it once")
            self._values[name] = value

    def number(self, name: str, low: int, high: int) -> int | None:
        """A whole number, None when it is not given. Raises AdminRequestError."""

        def read(text: str) -> int:
            number = whole_number(text)
            if number is None or not low <= number <= high:
                raise ValueError(f"a whole number from {low} to {high}")
            return number

        return self.value(name, read)

    def value(self, name: str, read: Callable[[str], _Read]) -> _Read | None:
        """What `read` makes of a value, None when it is not given.

        Args:
            read: raises ValueError, whose text says what is wanted.

        Raises AdminRequestError.
        """
        text = self._values.get(name)
        if text is None:
            return None
        try:
            return read(text)
        except ValueError as wanted:
            raise AdminRequestError(
                f"{name}={text[:_TEXT_SHOWN]!r} is not taken: {name} is {wanted}"
            ) from None


def whole_number(text: str) -> int | None:
    """A number of 64 bits written with digits alone, None for any other text."""
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX):
        return None
    number = int(text)
    return number if number <= NUMBER_MAX else None


def truth(text: str) -> bool:
    """``true`` or ``false``. Raises ValueError."""
    if text not in ("true", "false"):
        raise ValueError("true or false")
    return text == "true"


def decode_body(body: bytes, kind: type[_Body], form: str) -> _Body:
    """The JSON body of a request; an empty one counts as an empty object.

    Args:
        form: what is taken, for the text of an error.

    Raises AdminRequestError.
    """
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise AdminRequestError(f"the body is not taken ({error}); send {form}") from None


def read_partitions(text: str) -> list[int]:
    """Numbers of partitions with commas between. Raises ValueError."""
    wanted = "numbers of partitions with commas between"
    if len(text) > PARTITIONS_TEXT_MAX:
        raise ValueError(wanted)
    numbers = [whole_number(part) for part in text.split(",")]
    if None in numbers:
        raise ValueError(wanted)
    return [number for number in numbers if number is not None]


def partitions_text(partitions: Sequence[int]) -> str:
    """What `read_partitions` reads."""
    return ",".join(map(str, partitions))
