"""Which method and path of admin REST lead to which answer."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from ..errors import AdminMethodError, NoSuchResourceError

_PATH_SHOWN: Final = 200


class Request(msgspec.Struct, frozen=True):
    """One request, as the resources see it.

    Attributes:
        parts: what stands in the path for its ``{…}``, in order.
        query: the text behind the question mark.
        body: empty for GET.
    """

    parts: tuple[str, ...] = ()
    query: str = ""
    body: bytes = b""


class Text(msgspec.Struct, frozen=True):
    """An answer that is not JSON."""

    content_type: str
    body: bytes


Answer: TypeAlias = Callable[[Request], Awaitable[object]]
"""Gives what becomes JSON, or a `Text`. Raises PerdureError."""


BODY_BYTES_MAX: Final = 64 * 1024
"""What most requests may bring along."""


class Route(NamedTuple):
    """A method of a path.

    In the path ``{name}`` stands for one part; ``{name*}``, at its end, for one or more.
    """

    method: str
    path: str
    answer: Answer
    body_bytes_max: int = BODY_BYTES_MAX


class Routes:
    """All routes of one server."""

    def __init__(self, routes: Sequence[Route]) -> None:
        """Take them; those of one path may stand apart."""
        self._routes = [(route.path.split("/"), route) for route in routes]

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]]:
        """Where a request leads, and the variable parts of its path.

        Raises NoSuchResourceError or AdminMethodError.
        """
        given = path.rstrip("/").split("/")
        allowed: list[str] = []
        for pattern, route in self._routes:
            parts = _match(pattern, given)
            if parts is None:
                continue
            if route.method == method:
                return route, parts
            allowed.append(route.method)
        if allowed:
            raise AdminMethodError(method, allowed)
        known = ", ".join(dict.fromkeys(route.path for _, route in self._routes))
        raise NoSuchResourceError(f"{path[:_PATH_SHOWN]!r} is not here; there are {known}")


def _match(pattern: list[str], given: list[str]) -> tuple[str, ...] | None:
    if pattern[-1].endswith("*}") and len(given) > len(pattern):
        last = len(pattern) - 1
        given = [*given[:last], "/".join(given[last:])]
    if len(pattern) != len(given):
        return None
    parts: list[str] = []
    for expected, found in zip(pattern, given, strict=True):
        if expected.startswith("{"):
            parts.append(found)
        elif expected != found:
            return None
    return tuple(parts)
