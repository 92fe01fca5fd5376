"""Which invocation a command is about: an id, a workflow, or a target with its idempotency key."""

from typing import TYPE_CHECKING, Annotated

import typer

from .ingress_client import split_target

if TYPE_CHECKING:
    from ...proto.generated import ingress_pb2 as wire

ReferredId = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="The invocation's id, inv_1….")
]
ReferredWorkflow = Annotated[
    str | None, typer.Option("--workflow", metavar="NAME/KEY", help="The run of a workflow.")
]
ReferredTarget = Annotated[
    str | None,
    typer.Option(
        "--target", metavar="TARGET", help="What was called, together with --idempotency-key."
    ),
]
ReferredKey = Annotated[
    str | None,
    typer.Option("--idempotency-key", metavar="KEY", help="The key that it was called with."),
]


def build_reference(
    invocation_id: str | None, workflow: str | None, target: str | None, key: str | None
) -> "wire.InvocationReference":
    """The reference of a command line, which gives exactly one. Raises typer.BadParameter."""
    from ...proto.generated import ingress_pb2 as wire

    given = [invocation_id, workflow, target if target is not None else key]
    if sum(each is not None for each in given) != 1 or (target is None) != (key is None):
        raise typer.BadParameter(
            "say which invocation is meant: by its ID, by --workflow NAME/KEY, or by --target "
            "TARGET with --idempotency-key KEY"
        )
    if invocation_id is not None:
        return wire.InvocationReference(invocation_id=invocation_id)
    if workflow is not None:
        name, slash, workflow_key = workflow.partition("/")
        if not (name and slash and workflow_key):
            raise typer.BadParameter(f"{workflow!r} is not NAME/KEY", param_hint="--workflow")
        return wire.InvocationReference(workflow={"name": name, "key": workflow_key})
    assert target is not None
    service, object_key, handler = split_target(target, "--target")
    return wire.InvocationReference(
        idempotent_request={
            "target": wire.Target(service=service, handler=handler, key=object_key),
            "idempotency_key": key,
        }
    )
