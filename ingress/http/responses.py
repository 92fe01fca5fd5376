"""The answers of the HTTP front door: status, headers and body, exactly as clients know them."""

from typing import Final

import msgspec

from ...core.errors import PerdureError
from ...core.http_server import Headers
from ...core.ids import invocation_id_text
from ..dispatcher import Accepted, Completed, InvocationFailure, Rejected
from ..errors import HTTP_STATUS

_CONTENT_TYPE: Final = ("content-type", "application/json")
_SOURCE_INGRESS: Final = ("x-restate-error-source", "ingress")
_SOURCE_INVOCATION: Final = ("x-restate-error-source", "invocation")
_RETRY_AFTER: Final = ("retry-after", "1")
_ALLOW: Final = ("allow", "GET, POST")
CORS_HEADERS: Final = (
    ("access-control-allow-origin", "*"),
    ("access-control-expose-headers", "*"),
)
"""Added to answers for a browser, which names its origin."""

_encoder: Final = msgspec.json.Encoder()


class Response(msgspec.Struct, frozen=True, gc=False):
    """One answer."""

    status: int
    headers: Headers
    body: bytes


def of_reply(reply: Completed | Accepted | Rejected) -> Response:
    """The answer to a call or a send."""
    if isinstance(reply, Completed):
        identity = ("x-restate-id", invocation_id_text(reply.invocation_id))
        if reply.failure is not None:
            return _of_failure(reply.failure, identity)
        if reply.value:
            return Response(200, [_CONTENT_TYPE, identity], reply.value)
        return Response(200, [identity], b"")
    if isinstance(reply, Accepted):
        text = invocation_id_text(reply.invocation_id)
        status = b"Accepted" if reply.new else b"PreviouslyAccepted"
        body = b'{"invocationId":"%b","status":"%b"}' % (text.encode(), status)
        return Response(202, [_CONTENT_TYPE, ("x-restate-id", text)], body)
    response = of_error(reply.error)
    response.headers.append(("x-restate-id", invocation_id_text(reply.invocation_id)))
    return response


def of_error(error: PerdureError) -> Response:
    """The answer to a request that the runtime refused or could not finish."""
    status = status_of(error)
    headers = [_CONTENT_TYPE, _SOURCE_INGRESS]
    if error.retryable:
        headers.append(_RETRY_AFTER)
    if status == 405:
        headers.append(_ALLOW)
    body = {"code": status, "message": error.message, "source": "ingress", "error": error.code}
    return Response(status, headers, _encoder.encode(body))


def of_health(services: list[str]) -> Response:
    """The answer to a health check: the services that can be called."""
    return Response(200, [_CONTENT_TYPE], _encoder.encode({"services": services}))


def of_preflight(requested_headers: str | None) -> Response:
    """The answer to a browser that asks what it may send: anything, from anywhere."""
    headers = [
        *CORS_HEADERS,
        ("access-control-allow-methods", "GET, POST, OPTIONS"),
        # The wildcard would leave out `authorization`, so what was asked for is named.
        ("access-control-allow-headers", requested_headers or "*"),
        ("access-control-max-age", "600"),
    ]
    return Response(200, headers, b"")


def status_of(error: PerdureError) -> int:
    """The HTTP status of an error: its own, else that of the nearest class above it, else 500."""
    for kind in type(error).__mro__:
        status = HTTP_STATUS.get(kind)
        if status is not None:
            return status
    return 500


def _of_failure(failure: InvocationFailure, identity: tuple[str, str]) -> Response:
    # A failure whose code is no error status would look like a success or a redirect.
    status = failure.code if 400 <= failure.code <= 999 else 500
    body: dict[str, object] = {
        "code": failure.code,
        "message": failure.message,
        "source": "invocation",
    }
    if failure.metadata:
        body["metadata"] = dict(failure.metadata)
    return Response(status, [_CONTENT_TYPE, _SOURCE_INVOCATION, identity], _encoder.encode(body))
