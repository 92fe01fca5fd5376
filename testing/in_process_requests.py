"""The client's requests inside a process: straight to the dispatcher, over crashes of the node."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..core.errors import PerdureError
from ..ingress.grpc.asking import ask
from ..ingress.grpc.translation import KINDS, status_name
from ..partition_processor.processor import InvocationNotFoundError
from ..proto.generated import ingress_pb2 as wire
from ..sdk.client_types import refusal_of, unreachable
from .node_life import NODE_ADDRESS, NodeLife


class InProcessRequests:
    """Requests to the node of an environment; see `client_types.Requests`."""

    def __init__(
        self, find_node: Callable[[], Awaitable[NodeLife]], workflows: Mapping[str, str]
    ) -> None:
        """Take what waits for a node that leads, and each workflow's main handler."""
        self._find_node = find_node
        self._workflows = workflows

    async def request(
        self, request: wire.SessionRequest, *, repeatable: bool
    ) -> wire.SessionResponse:
        """The answer to a request, which is repeated at the next node when one crashes under it.

        Raises HttpError, also for one that is not `repeatable`; but runs of workflows are taken
        once, so that they can be repeated all the same. Cancelling ends the wait.
        """
        name = request.WhichOneof("request")
        assert name is not None
        message: Any = getattr(request, name)
        is_run = False
        if not repeatable and name in ("call", "send"):
            target = message.invocation.target
            is_run = self._workflows.get(target.service) == target.handler
        asked, asked_message = name, message
        while True:
            node = await self._find_node()
            try:
                reply = await ask(node.engine.dispatcher, asked, asked_message, None)
            except PerdureError as error:
                if asked != name and isinstance(error, InvocationNotFoundError):
                    asked, asked_message = name, message  # the crash was before it was taken
                    continue
                if not node.gone:
                    raise refusal_of(status_name(error), error.code, error.message) from None
                if not (repeatable or is_run):
                    raise unreachable(NODE_ADDRESS, error, sent=True) from None
                if is_run and name == "call":
                    asked, asked_message = "attach", _attaching(message)
            else:
                response = wire.SessionResponse()
                # An answer to `attach` has the form of one to `call`, which is what was asked.
                KINDS[asked].fill(getattr(response, name), reply)
                return response


def _attaching(call: wire.CallRequest) -> wire.AttachRequest:
    target = call.invocation.target
    workflow = wire.InvocationReference.Workflow(name=target.service, key=target.key)
    reference = wire.InvocationReference(workflow=workflow)
    return wire.AttachRequest(invocation=reference)
