"""The answers of the HTTP front door: status, headers and body, exactly as clients know them."""

from datetime import UTC, datetime
from typing import Final, TypeAlias

import msgspec

from ...core.errors import PerdureError
from ...core.http_server import Headers
from ...core.ids import InvocationId, invocation_id_text
from ..errors import HTTP_STATUS, RETRY_AFTER_SECONDS, MethodNotAllowedError
from ..requests import Accepted, Acknowledged, Completed, InvocationFailure, Rejected

_CONTENT_TYPE: Final = ("content-type", "application/json")
_SOURCE_INGRESS: Final = ("x-restate-error-source", "ingress")
_SOURCE_INVOCATION: Final = ("x-restate-error-source", "invocation")
_RETRY_AFTER: Final = ("retry-after", str(RETRY_AFTER_SECONDS))
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


class Located(msgspec.Struct, frozen=True, gc=False):
    """The id that was looked up."""

    invocation_id: InvocationId


Reply: TypeAlias = Completed | Accepted | Acknowledged | Rejected | Located


def of_reply(reply: Reply) -> Response:
    """The answer to a request that the dispatcher took."""
    if isinstance(reply, Completed):
        identity = ("x-restate-id", invocation_id_text(reply.invocation_id))
        if reply.failure is not None:
            response = _of_failure(reply.failure, identity)
        elif reply.value and reply.content_type:
            headers = [("content-type", reply.content_type), identity]
            response = Response(200, headers, reply.value)
        else:
            response = Response(200, [identity], reply.value)
        if reply.expires_ns:
            response.headers.append(("idempotency-expires", _expiry(reply.expires_ns)))
        return response
    if isinstance(reply, Accepted):
        return _of_accepted(reply)
    if isinstance(reply, Acknowledged):
        return Response(202, [], b"")
    if isinstance(reply, Located):
        text = invocation_id_text(reply.invocation_id)
        return Response(200, [_CONTENT_TYPE], b'{"invocationId":"%b"}' % text.encode())
    response = of_error(reply.error)
    response.headers.append(("x-restate-id", invocation_id_text(reply.invocation_id)))
    return response


def _of_accepted(reply: Accepted) -> Response:
    text = invocation_id_text(reply.invocation_id)
    status = b"Accepted" if reply.new else b"PreviouslyAccepted"
    time = b""
    if reply.start_ns:
        time = b'"executionTime":"%b",' % _time(reply.start_ns).encode()
    body = b'{"invocationId":"%b",%b"status":"%b"}' % (text.encode(), time, status)
    return Response(202, [_CONTENT_TYPE, ("x-restate-id", text)], body)


def _time(time_ns: int) -> str:
    """A time since 1970 to the nanosecond, as RFC 3339 has it."""
    seconds, rest_ns = divmod(time_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns:09}Z"


def _expiry(time_ns: int) -> str:
    """A time since 1970 to the millisecond, with the offset that clients know."""
    seconds, rest_ns = divmod(time_ns, 10**9)
    text = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
    return f"{text}.{rest_ns // 1_000_000:03}+00:00"


def of_error(error: PerdureError) -> Response:
    """The answer to a request that the runtime refused or could not finish."""
    status = status_of(error)
    headers = [_CONTENT_TYPE, _SOURCE_INGRESS]
    if error.retryable:
        headers.append(_RETRY_AFTER)
    if isinstance(error, MethodNotAllowedError):
        headers.append(("allow", error.allowed))
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
