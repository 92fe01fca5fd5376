"""Which columns of a table fit side by side."""

from collections.abc import Sequence


def columns_that_fit(
    widths: Sequence[int], room: int, *, gap: int, dispensable: Sequence[int]
) -> list[int]:
    """The columns to show, by number: those that can be done without go until the rest fits.

    Args:
        widths: of all columns, in characters.
        room: of all of them together.
        gap: between two columns.
        dispensable: numbers of columns that may go, the first of them first.
    """
    left = list(range(len(widths)))
    for number in dispensable:
        if sum(widths[each] for each in left) + gap * (len(left) - 1) <= room:
            break
        left.remove(number)
    return left
