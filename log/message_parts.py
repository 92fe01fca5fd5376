"""Cutting what one turn has to say to one peer into messages of a bounded length."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def message_parts(
    items: Sequence[Item], size_of: Callable[[Item], int], bytes_max: int
) -> Iterator[Sequence[Item]]:
    """The items of one message after the other, in order.

    A message is closed once it is as long as `bytes_max`; a single longer item ends one.
    """
    start = size = 0
    for position, item in enumerate(items):
        size += size_of(item)
        if size >= bytes_max:
            yield items[start : position + 1]
            start, size = position + 1, 0
    if start < len(items):
        yield items[start:]
