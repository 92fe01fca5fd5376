"""The HTTP side of a client: its requests as calls of the HTTP front door's routes, with httpx.

It is there for programs that know the URL of a front door only: it has no repetition, no batches,
and neither signals nor cancellation, which the gRPC one has.
"""

import json
from collections.abc import AsyncIterator
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
async def open_http_requests(url: str) -> AsyncIterator["HttpRequests"]:
    """Requests to the front door at `url`."""
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUTS) as client:
        yield HttpRequests(client, url)


class HttpRequests:
    """Requests over HTTP; see `client_types.Requests`."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        """Take an open client of `url`."""
        self._client = client
        self._url = url

    async def request(
        self, request: wire.SessionRequest, *, repeatable: bool
    ) -> wire.SessionResponse:
        """The answer to a request, which is sent once. Raises HttpError.

        Raises UnsupportedOptionError for one that has no route. Cancelling ends the wait.
        """
        match request.WhichOneof("request"):
            case "call":
                answer = await self._invoke(request.call.invocation, "")
                return wire.SessionResponse(call=_result(answer))
            case "send":
                delay = f"?delay={request.send.delay_ms}" if request.send.delay_ms else ""
                answer = await self._invoke(request.send.invocation, f"/send{delay}")
                return wire.SessionResponse(send=_accepted(answer))
            case "attach":
                answer = await self._ask("attach", request.attach.invocation)
                return wire.SessionResponse(attach=_result(answer))
            case "get_output":
                answer = await self._ask("output", request.get_output.invocation)
                return wire.SessionResponse(get_output=_result(answer))
            case "lookup":
                answer = await self._ask("lookup", request.lookup.invocation)
                found = wire.LookupResponse(invocation_id=answer.json()["invocationId"])
                return wire.SessionResponse(lookup=found)
            case "complete_awakeable":
                await self._complete(request.complete_awakeable)
                return wire.SessionResponse(complete_awakeable=wire.CompleteAwakeableResponse())
            case other:
                raise UnsupportedOptionError(
                    f"the HTTP front door has no route for {other}; give create_client host:port "
                    "of the gRPC one"
                )

    async def _invoke(self, invocation: wire.InvocationRequest, ending: str) -> httpx.Response:
        target = invocation.target
        parts = [target.service, target.handler]
        if target.HasField("key"):
            parts.insert(1, target.key)
        headers = dict(invocation.headers)
        if invocation.HasField("idempotency_key"):
            headers["idempotency-key"] = invocation.idempotency_key
        return await self._post(_path(*parts) + ending, invocation.body, headers)

    async def _ask(self, verb: str, invocation: wire.InvocationReference) -> httpx.Response:
        body = json.dumps(_reference(invocation)).encode()
        return await self._post(f"/restate/{verb}", body, {"content-type": "application/json"})

    async def _complete(self, completion: wire.CompleteAwakeableRequest) -> None:
        path = _path("restate", "awakeables", completion.awakeable_id)
        if completion.WhichOneof("result") == "failure":
            text = completion.failure.message.encode()
            await self._post(f"{path}/reject", text, {"content-type": "text/plain"})
        else:
            json_type = {"content-type": "application/json"}
            await self._post(f"{path}/resolve", completion.value, json_type)

    async def _post(self, path: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        try:
            response = await self._client.post(path, content=body, headers=headers)
        except httpx.HTTPError as error:
            words = str(error) or type(error).__name__
            sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise unreachable(self._url, TransportError(words), sent) from None
        if response.status_code >= _FAILED:
            raise HttpError(response.status_code, _message(response), response.text)
        return response


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
