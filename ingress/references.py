"""From what a client knows of an invocation to the invocation's id: computed, nothing is asked."""

from ..core.hashing import idempotent_invocation_id, workflow_invocation_id
from ..core.ids import InvocationId
from .errors import BadRequestError
from .requests import IdempotentInvocation, Reference, WorkflowRun
from .targeting import check_key


def referred_id(reference: Reference) -> InvocationId:
    """The id of the invocation, whether it exists or not. Raises BadRequestError."""
    if isinstance(reference, WorkflowRun):
        _check_there(reference.workflow, "workflow's name")
        _check_there(reference.key, "workflow's key")
        check_key(reference.key)
        return workflow_invocation_id(reference.workflow, reference.key)
    if isinstance(reference, IdempotentInvocation):
        _check_there(reference.service, "service")
        _check_there(reference.handler, "handler")
        _check_there(reference.idempotency_key, "idempotency key")
        if reference.key is not None:
            _check_there(reference.key, "key")
            check_key(reference.key)
        return idempotent_invocation_id(
            reference.service, reference.key, reference.handler, reference.idempotency_key
        )
    return reference


def _check_there(value: str, name: str) -> None:
    if not value:
        raise BadRequestError(f"the {name} is empty: say which invocation is meant")
