"""Says which tests cover which message, command or transition; `docs/protocol.md` lists them."""

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., object])


def covers(*names: str) -> Callable[[Test], Test]:
    """Mark a test as one that covers these names of `docs/protocol.md`.

    ``scripts/protocol_table.py`` reads the marks from the source, so the names are literals:
    constants of `core.protocol.messages` and the names of the commands in `records`.
    """
    assert names, "name what the test covers"

    def mark(test: Test) -> Test:
        return test

    return mark
