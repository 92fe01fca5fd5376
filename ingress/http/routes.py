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
from typing import Final, NamedTuple, TypeAlias

import msgspec

from ..errors import BadRequestError, UnknownServiceError
from ..requests import WorkflowRun

_UNDECODABLE: Final = "\N{REPLACEMENT CHARACTER}"
_RESERVED: Final = "restate"
_CACHED_PATHS: Final = 4096
"""Paths of plain services are few and come again and again; those of keys just pass through."""
ATTACH: Final = "attach"
OUTPUT: Final = "output"
LOOKUP: Final = "lookup"
_REFERRING: Final = (ATTACH, OUTPUT)
_RESOLVE: Final = "resolve"
_REJECT: Final = "reject"


class Target(NamedTuple):
    """One reading of a path."""

    service: str
    key: str | None
    handler: str
    one_way: bool


class HealthRoute(msgspec.Struct, frozen=True):
    """Which services there are."""


class ReferenceRoute(msgspec.Struct, frozen=True):
    """Attach to an invocation, ask for its output, or look its id up.

    Attributes:
        verb: one of ATTACH, OUTPUT and LOOKUP.
        reference: the text of an id; service, handler and idempotency key as they stand in the
            path; a workflow; or None where the body says it.
    """

    verb: str
    reference: str | tuple[str, ...] | WorkflowRun | None
    method: str


class AwakeableRoute(msgspec.Struct, frozen=True):
    """Complete an awakeable with the body."""

    awakeable_id: str
    rejects: bool
    method: str = "POST"


class SignalRoute(msgspec.Struct, frozen=True):
    """Send a named signal with the body."""

    invocation_id: str
    name: str
    rejects: bool
    method: str = "POST"


OperationRoute: TypeAlias = ReferenceRoute | AwakeableRoute | SignalRoute
"""What concerns an invocation that there is already."""
Route: TypeAlias = tuple[Target, ...] | HealthRoute | OperationRoute


@lru_cache(maxsize=_CACHED_PATHS)
def parse_path(path: str) -> Route:
    """What a percent-decoded path asks for; of targets, all readings, likeliest first.

    Raises BadRequestError or UnknownServiceError.
    """
    if _UNDECODABLE in path:
        raise BadRequestError("the path is not percent-encoded UTF-8")
    segments = path.split("/")
    # A path starts with a slash, and one at the end is ignored.
    segments = segments[1:-1] if segments[-1] == "" else segments[1:]
    count = len(segments)
    if count < 2:
        if segments == ["openapi"]:
            raise UnknownServiceError("there is no OpenAPI document here, nor a service openapi")
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


def _parse_reserved(segments: list[str], path: str) -> Route:
    verb, rest = segments[1], segments[2:]
    route: Route | None = None
    if verb in ("call", "send"):
        if len(rest) < 2 or not rest[0] or not rest[-1]:
            raise _no_target(path)
        key = "/".join(rest[1:-1]) if len(rest) > 2 else None
        route = (Target(rest[0], key, rest[-1], one_way=verb == "send"),)
    elif verb == "scope":
        raise BadRequestError(
            "scopes are not supported: leave /restate/scope/… out, and use a service or key of "
            "its own where invocations are to be kept apart"
        )
    elif verb == "health" and not rest:
        route = HealthRoute()
    elif verb in (*_REFERRING, LOOKUP):
        route = _parse_verb(verb, rest)
    elif verb == "invocation" and len(rest) >= 2 and rest[-1] in _REFERRING:
        named = tuple(rest[:-1])
        if len(named) == 1:
            route = ReferenceRoute(rest[-1], named[0], "GET")
        elif len(named) >= 3:
            route = ReferenceRoute(rest[-1], named, "GET")
    elif verb == "workflow" and len(rest) >= 3 and rest[-1] in _REFERRING:
        workflow = WorkflowRun(rest[0], "/".join(rest[1:-1]))
        route = ReferenceRoute(rest[-1], workflow, "GET")
    elif rest and rest[-1] in (_RESOLVE, _REJECT):
        rejects = rest[-1] == _REJECT
        if verb in ("awakeables", "a") and len(rest) == 2:
            route = AwakeableRoute(rest[0], rejects)
        elif verb == "signal" and len(rest) >= 3:
            route = SignalRoute(rest[0], "/".join(rest[1:-1]), rejects)
    if route is None:
        raise BadRequestError(
            f"{path[:200]!r} is not supported; under /restate there are health, call/…, send/…, "
            "attach, output, lookup, invocation/…/attach|output, workflow/NAME/KEY/attach|output, "
            "awakeables/ID/resolve|reject and signal/ID/NAME/resolve|reject"
        )
    return route


def _parse_verb(verb: str, rest: list[str]) -> Route | None:
    """``/restate/attach``, ``output`` and ``lookup``, with an id behind or a body."""
    if not rest:
        return ReferenceRoute(verb, None, "POST")
    if verb != LOOKUP and len(rest) == 1:
        return ReferenceRoute(verb, rest[0], "GET")
    return None


def _no_target(path: str) -> BadRequestError:
    return BadRequestError(
        f"{path[:200]!r} names no handler; a path is /service/handler or /object/key/handler, with "
        "/send after it for a one-way call"
    )
