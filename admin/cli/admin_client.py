"""Asking admin REST for the commands that look into a node."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from ...core.errors import MalformedMessageError, TransportError
from .output import RemoteError

if TYPE_CHECKING:
    import urllib.request

ADMIN_DEFAULT: Final = "http://127.0.0.1:9070"
TIMEOUT_SECONDS: Final = 10.0
_Shown = TypeVar("_Shown")

AdminOption = Annotated[str, typer.Option("--admin", metavar="URL", help="Admin REST of a node.")]


def get(
    admin: str,
    path: str,
    kind: type[_Shown],
    *,
    query: Mapping[str, str] | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> _Shown:
    """Ask for a resource. Raises TransportError, MalformedMessageError, RemoteError or
    typer.BadParameter."""
    import urllib.request

    return _ask(admin, urllib.request.Request(_url(admin, path, query)), kind, timeout_seconds)


def post(
    admin: str,
    path: str,
    body: Mapping[str, object],
    kind: type[_Shown],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> _Shown:
    """Have something done. Raises TransportError, MalformedMessageError, RemoteError or
    typer.BadParameter."""
    import urllib.request

    import msgspec

    request = urllib.request.Request(
        _url(admin, path),
        data=msgspec.json.encode(body),
        headers={"content-type": "application/json"},
        method="POST",
    )
    return _ask(admin, request, kind, timeout_seconds)


def delete(
    admin: str,
    path: str,
    kind: type[_Shown],
    *,
    query: Mapping[str, str] | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> _Shown:
    """Have something taken away. Raises TransportError, MalformedMessageError, RemoteError or
    typer.BadParameter."""
    import urllib.request

    request = urllib.request.Request(
        _url(admin, path, query), headers={"content-type": "application/json"}, method="DELETE"
    )
    return _ask(admin, request, kind, timeout_seconds)


def quoted(part: str) -> str:
    """A part of a path, as it stands in a URL."""
    import urllib.parse

    return urllib.parse.quote(part, safe="")


def _url(admin: str, path: str, query: Mapping[str, str] | None = None) -> str:
    import urllib.parse

    with_scheme = "://" in admin
    url = admin if with_scheme else f"http://{admin}"
    try:
        parts = urllib.parse.urlsplit(url)
        understood = parts.scheme in ("http", "https") and bool(parts.hostname)
        understood = understood and (with_scheme or parts.port is not None)
    except ValueError:
        understood = False
    if not understood:
        raise typer.BadParameter(
            f"{admin!r} is not a URL such as {ADMIN_DEFAULT}", param_hint="--admin"
        )
    url = url.rstrip("/") + path
    return f"{url}?{urllib.parse.urlencode(query)}" if query else url


def _ask(
    admin: str, request: "urllib.request.Request", kind: type[_Shown], timeout_seconds: float
) -> _Shown:
    import http.client
    import urllib.error
    import urllib.request

    import msgspec

    # A node on loopback is not behind the proxy that the environment may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_seconds) as response:
            body = response.read()
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(admin, request.selector, error.code, error.read()) from None
    except (OSError, http.client.IncompleteRead) as error:
        # A node that ends in the midst of its answer has said nothing wrong.
        reason = getattr(error, "reason", error)
        raise TransportError(f"no node answers at {admin} ({reason}); --admin names another") from (
            None
        )
    except http.client.HTTPException:
        raise MalformedMessageError(_no_admin(admin, "does not speak HTTP")) from None
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        what = f"answered {request.selector} with what no node says: {error}"
        raise MalformedMessageError(_no_admin(admin, what)) from None


def _refused(
    admin: str, path: str, status: int, body: bytes
) -> MalformedMessageError | RemoteError:
    import msgspec

    try:
        answer = msgspec.json.decode(body, type=dict[str, str])
        return RemoteError(answer["code"], answer["message"])
    except (msgspec.MsgspecError, KeyError):
        return MalformedMessageError(_no_admin(admin, f"answered {path} with HTTP {status}"))


def _no_admin(admin: str, what: str) -> str:
    return f"{admin} {what}: it is not the admin REST of a node, which --admin takes"
