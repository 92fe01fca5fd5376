"""``perdure attach``: wait for the result of an invocation that was started before."""

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

HELP: Final = """Wait for an invocation that was started before, print its result.

  perdure attach inv_1foAirY4KKzi7nKAusBx0aH9gUCdM1D3LM

  perdure attach --workflow SignUp/ada

  perdure attach --target Counter/ada/add --idempotency-key first

With -o json the result comes with its invocation id.
"""


def attach(
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

    request = wire.AttachRequest(invocation=reference)
    print_result(ask(ingress, lambda stub: stub.Attach(request)), output)
