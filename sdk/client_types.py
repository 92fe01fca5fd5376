"""What a client of the front doors gives and raises, whatever way its requests travel."""

import asyncio
import json
from http import HTTPStatus
from typing import Final, Protocol

from ..core.errors import PerdureError
from ..proto.generated import ingress_pb2 as wire

STATUS_NOT_COMPLETED: Final = 470
_INTERNAL: Final = 500
_HTTP_OF_STATUS: Final = {
    "NOT_FOUND": 404,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": STATUS_NOT_COMPLETED,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "UNIMPLEMENTED": 501,
    "CANCELLED": 499,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_HTTP_OF_CODE: Final = {"PD0505": 413, "PD0511": 400, "PD0911": 410}


class HttpError(Exception):
    """A request failed: the handler's own failure, or the runtime could not serve it.

    Attributes:
        status_code: what the HTTP front door answers with: a handler's code, 404 for what does not
            exist, 470 for a result that is not there yet, 503 when no node was to be reached.
        message: what happened.
        body: JSON with ``code``, ``message``, ``source`` (``invocation`` for a handler's failure,
            else ``ingress``) and, where the handler gave some, ``metadata``.
    """

    def __init__(self, status_code: int, message: str, body: str | None = None) -> None:
        """Take the status and the sentence."""
        super().__init__(f"HTTP {status_code}: {message}")
        self.status_code = status_code
        self.message = message
        self.body = body


class RestateClientSendHandle:
    """What a send gives: the invocation that it started.

    Attributes:
        invocation_id: to attach to, cancel or signal it by.
        status_code: 202, or 200 when the same request was accepted before.
    """

    def __init__(self, invocation_id: str, status_code: int) -> None:
        """Take both."""
        self.invocation_id = invocation_id
        self.status_code = status_code


class Requests(Protocol):
    """The way that requests travel to a front door."""

    async def request(
        self, request: wire.SessionRequest, *, repeatable: bool
    ) -> wire.SessionResponse:
        """The answer to a request; its `id` is the adapter's to fill in.

        A request that is not `repeatable` is sent once at most. Raises HttpError when there is no
        answer. Cancelling is safe: the wait ends, what the request started goes on.
        """
        ...


def failure_of(failure: wire.Failure) -> HttpError:
    """The error that stands for a handler's terminal failure."""
    status = failure.code if 200 <= failure.code <= 599 else _INTERNAL
    body: dict[str, object] = {
        "code": failure.code,
        "message": failure.message,
        "source": "invocation",
    }
    if failure.metadata:
        body["metadata"] = dict(failure.metadata)
    return HttpError(status, failure.message or _phrase(status), _json(body))


def refusal_of(status: str, code: str, message: str) -> HttpError:
    """The error that stands for the runtime's refusal, by the name of its gRPC status."""
    http = _HTTP_OF_CODE.get(code) or _HTTP_OF_STATUS.get(status, _INTERNAL)
    sentence = f"{message} [{code}]" if code else message
    body: dict[str, object] = {"code": http, "message": sentence, "source": "ingress"}
    return HttpError(http, sentence, _json(body))


def unreachable(address: str, error: PerdureError, sent: bool) -> HttpError:
    """The error of a request that no node answered; `sent`: one may have taken it all the same."""
    taken = "whether the request was taken is not known" if sent else "the request was not taken"
    return refusal_of("UNAVAILABLE", error.code, f"{address}: {error}; {taken}")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "failed"


def _json(body: dict[str, object]) -> str:
    return json.dumps(body, ensure_ascii=False)


def settle(waiter: "asyncio.Future[wire.SessionResponse]", error: Exception) -> None:
    """Let a request fail, unless it has its answer or is not waited for."""
    if not waiter.done():
        waiter.set_exception(error)
