"""The HTTP side of a client: its requests as calls of the HTTP front door's routes, with httpx.

It is there for programs that know URLs of front doors only: it has no batches, and neither signals
nor cancellation, which the gRPC one has. A request goes to each front door once at most.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import quote

import httpx

from ..core.errors import TransportError
from ..proto.generated import ingress_pb2 as wire
from .client_types import HttpError, unreachable
from .errors import UnsupportedOptionError

# An answer may take as long as its handler does.
_TIMEOUTS: Final = httpx.Timeout(None, connect=5.0)
_FAILED: Final = 400


@asynccontextmanager
async def open_http_requests(urls: Sequence[str]) -> AsyncIterator["HttpRequests"]:
    """Requests to the front doors at `urls`."""
    async with httpx.AsyncClient(timeout=_TIMEOUTS) as client:
        yield HttpRequests(client, urls)


class HttpRequests:
    """Requests over HTTP; see `client_types.Requests`."""

    def __init__(self, client: httpx.AsyncClient, urls: Sequence[str]) -> None:
        """Take an open client, and the front doors that are tried in turn."""
        self._client = client
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._current = 0

    async def request(
        self, request: wire.SessionRequest, *, repeatable: bool
    ) -> wire.SessionResponse:
        """The answer to a request. Raises HttpError.

        When a connection is lost, the next door is asked if nobody has taken the request or if it
        may be repeated. Raises UnsupportedOptionError for one that has no route. Cancelling ends
        the wait.
        """
        repeatable = repeatable and _has_identity(request)
        first, count, sent = self._current, len(self._urls), False
        for tried in range(1, count + 1):
            number = (first + tried - 1) % count
            url = self._urls[number]
            try:
                return await self._ask_door(url, request)
            except httpx.HTTPError as error:
                # Of many requests that fail at once, one goes on for all.
                if self._current == number:
                    self._current = (number + 1) % count
                sent = sent or not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if tried == count or (sent and not repeatable):
                    words = str(error) or type(error).__name__
                    raise unreachable(url, TransportError(words), sent) from None
        raise AssertionError("there is a door")

    async def _ask_door(self, url: str, request: wire.SessionRequest) -> wire.SessionResponse:
        match request.WhichOneof("request"):
            case "call":
                answer = await self._invoke(url, request.call.invocation, "")
                return wire.SessionResponse(call=_result(answer))
            case "send":
                delay = f"?delay={request.send.delay_ms}" if request.send.delay_ms else ""
                answer = await self._invoke(url, request.send.invocation, f"/send{delay}")
                return wire.SessionResponse(send=_accepted(answer))
            case "attach":
                answer = await self._ask(url, "attach", request.attach.invocation)
                return wire.SessionResponse(attach=_result(answer))
            case "get_output":
                answer = await self._ask(url, "output", request.get_output.invocation)
                return wire.SessionResponse(get_output=_result(answer))
            case "lookup":
                answer = await self._ask(url, "lookup", request.lookup.invocation)
                found = wire.LookupResponse(invocation_id=answer.json()["invocationId"])
                return wire.SessionResponse(lookup=found)
            case "complete_awakeable":
                await self._complete(url, request.complete_awakeable)
                return wire.SessionResponse(complete_awakeable=wire.CompleteAwakeableResponse())
            case other:
                raise UnsupportedOptionError(
                    f"the HTTP front door has no route for {other}; give create_client host:port "
                    "of the gRPC one"
                )

    async def _invoke(
        self, url: str, invocation: wire.InvocationRequest, ending: str
    ) -> httpx.Response:
        target = invocation.target
        parts = [target.service, target.handler]
        if target.HasField("key"):
            parts.insert(1, target.key)
        headers = dict(invocation.headers)
        if invocation.HasField("idempotency_key"):
            headers["idempotency-key"] = invocation.idempotency_key
        return await self._post(url + _path(*parts) + ending, invocation.body, headers)

    async def _ask(
        self, url: str, verb: str, invocation: wire.InvocationReference
    ) -> httpx.Response:
        body = json.dumps(_reference(invocation)).encode()
        json_type = {"content-type": "application/json"}
        return await self._post(f"{url}/restate/{verb}", body, json_type)

    async def _complete(self, url: str, completion: wire.CompleteAwakeableRequest) -> None:
        path = url + _path("restate", "awakeables", completion.awakeable_id)
        if completion.WhichOneof("result") == "failure":
            text = completion.failure.message.encode()
            await self._post(f"{path}/reject", text, {"content-type": "text/plain"})
        else:
            json_type = {"content-type": "application/json"}
            await self._post(f"{path}/resolve", completion.value, json_type)

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        response = await self._client.post(url, content=body, headers=headers)
        if response.status_code >= _FAILED:
            raise HttpError(response.status_code, _message(response), response.text)
        return response


def _has_identity(request: wire.SessionRequest) -> bool:
    """Whether a repetition is known as one; HTTP has no place for an invocation id."""
    match request.WhichOneof("request"):
        case "call":
            return request.call.invocation.HasField("idempotency_key")
        case "send":
            return request.send.invocation.HasField("idempotency_key")
        case _:
            return True


def _path(*parts: str) -> str:
    return "".join("/" + quote(part, safe="") for part in parts)


def _reference(invocation: wire.InvocationReference) -> dict[str, str]:
    match invocation.WhichOneof("by"):
        case "workflow":
            workflow = invocation.workflow
            return {
                "target": "workflow",
                "workflowName": workflow.name,
                "workflowKey": workflow.key,
            }
        case "idempotent_request":
            request = invocation.idempotent_request
            reference = {
                "target": "idempotentInvocation",
                "service": request.target.service,
                "handler": request.target.handler,
                "idempotencyKey": request.idempotency_key,
            }
            if request.target.HasField("key"):
                reference["key"] = request.target.key
            return reference
        case _:
            return {"target": "invocation", "invocationId": invocation.invocation_id}


def _result(response: httpx.Response) -> wire.CallResponse:
    return wire.CallResponse(
        invocation_id=response.headers.get("x-restate-id", ""), value=response.content
    )


def _accepted(response: httpx.Response) -> wire.SendResponse:
    body = response.json()
    known = body.get("status") == "PreviouslyAccepted"
    return wire.SendResponse(
        invocation_id=body["invocationId"],
        status=wire.SendResponse.PREVIOUSLY_ACCEPTED if known else wire.SendResponse.ACCEPTED,
    )


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, LookupError, TypeError):
        return response.reason_phrase
