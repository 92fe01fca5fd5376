"""What a path of the HTTP front door means: the route, and the target it names.

The server hands out paths percent-decoded, so ``/Counter/a%2Fb/add`` arrives as
``/Counter/a/b/add``. Nothing is lost: service and handler names hold no slash, hence the first
segment is the service, the last one the handler, and *everything between* is the key.

A trailing ``/send`` has two readings. ``/Greeter/greet/send`` sends to a plain service, or calls
the handler ``send`` of an object under the key ``greet``. Reading it as one-way comes first, as
everywhere; where the dispatcher then says that the target has no such handler or wants a key, the
call is tried, and only when that is refused as well does the client get the first answer.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from ..errors import BadRequestError

_UNDECODABLE: Final = "\N{REPLACEMENT CHARACTER}"
_RESERVED: Final = "restate"
_CACHED_PATHS: Final = 4096
"""Paths of plain services are few and come again and again; those of keys just pass through."""


class Target(NamedTuple):
    """One reading of a path."""

    service: str
    key: str | None
    handler: str
    one_way: bool


@lru_cache(maxsize=_CACHED_PATHS)
def parse_path(path: str) -> tuple[Target, ...]:
    """The readings of a percent-decoded path, likeliest first; none for the health route.

    Raises BadRequestError.
    """
    if _UNDECODABLE in path:
        raise BadRequestError("the path is not percent-encoded UTF-8")
    segments = path.split("/")
    # A path starts with a slash, and one at the end is ignored.
    segments = segments[1:-1] if segments[-1] == "" else segments[1:]
    count = len(segments)
    if count < 2:
        raise _no_target(path)
    service = segments[0]
    if service == _RESERVED:
        return _parse_reserved(segments, path)
    if not service or not segments[-1]:
        raise _no_target(path)
    if count == 2:
        return (Target(service, None, segments[1], one_way=False),)
    call = Target(service, "/".join(segments[1:-1]), segments[-1], one_way=False)
    if segments[-1] != "send":
        return (call,)
    if count == 3:
        return (Target(service, None, segments[1], one_way=True), call)
    return (Target(service, "/".join(segments[1:-2]), segments[-2], one_way=True), call)


def _parse_reserved(segments: list[str], path: str) -> tuple[Target, ...]:
    verb = segments[1]
    if verb == "health" and len(segments) == 2:
        return ()
    if verb not in ("call", "send"):
        raise BadRequestError(
            f"{path!r} is not supported; under /restate there are health, call/… and send/…"
        )
    rest = segments[2:]
    if len(rest) < 2 or not rest[0] or not rest[-1]:
        raise _no_target(path)
    key = "/".join(rest[1:-1]) if len(rest) > 2 else None
    return (Target(rest[0], key, rest[-1], one_way=verb == "send"),)


def _no_target(path: str) -> BadRequestError:
    return BadRequestError(
        f"{path[:200]!r} names no handler; a path is /service/handler or /object/key/handler, with "
        "/send after it for a one-way call"
    )
