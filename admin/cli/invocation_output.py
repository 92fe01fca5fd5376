"""``perdure output``: the result of an invocation, if there is one yet."""

from typing import Final

from .ingress_client import INGRESS_DEFAULT, IngressOption, ask
from .output import Format, Output
from .reference import (
    ReferredId,
    ReferredKey,
    ReferredTarget,
    ReferredWorkflow,
    build_reference,
)
from .results import print_result

HELP: Final = """Print the result of an invocation, without waiting for it.

  perdure output inv_1foAirY4KKzi7nKAusBx0aH9gUCdM1D3LM

  perdure output --workflow SignUp/ada -o json

An invocation that has not completed is an error, PD0510.
"""


def invocation_output(
    invocation_id: ReferredId = None,
    workflow: ReferredWorkflow = None,
    target: ReferredTarget = None,
    idempotency_key: ReferredKey = None,
    ingress: IngressOption = INGRESS_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    reference = build_reference(invocation_id, workflow, target, idempotency_key)
    from ...proto.generated import ingress_pb2 as wire

    request = wire.GetOutputRequest(invocation=reference)
    print_result(ask(ingress, lambda stub: stub.GetOutput(request)), output)
