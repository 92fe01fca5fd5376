"""Having invocations that began with older code go on with the code that is served now."""

from typing import Final

import msgspec

from ...api.invocation_answers import OperationAnswer, OperationResult
from ...api.service_answers import DeploymentDetail, DeploymentList
from ..admin_client import get, post, quoted
from ..invocations.filters import Filters, select
from ..output import RemoteError

MOVED_MAX: Final = 1000
_UNKNOWN: Final = "PD1001"


def connected_workers(admin: str, deployment: str) -> list[str]:
    """The names of a deployment's workers; none before it is known.

    Raises TransportError or RemoteError.
    """
    try:
        detail = get(admin, f"/deployments/{quoted(deployment)}", DeploymentDetail)
    except RemoteError as error:
        if error.remote_code == _UNKNOWN:
            return []
        raise
    return [worker.name for worker in detail.workers if not worker.leaving]


class Handover(msgspec.Struct, frozen=True):
    """What became of invocations of older code.

    Attributes:
        moved: so many go on with the new code.
        refused: why the others stay, a sentence for each.
    """

    moved: int
    refused: list[str]


def hand_over(admin: str, deployment: str) -> Handover:
    """Move up to MOVED_MAX invocations that are pinned to a deployment without workers.

    One whose handler the new code lacks stays as it is. Raises TransportError or RemoteError.
    """
    results: list[OperationResult] = []
    for row in get(admin, "/deployments", DeploymentList).deployments:
        if row.name != deployment and row.pinned and not row.workers:
            left = MOVED_MAX - len(results)
            if left:
                pinned = select(admin, Filters(deployment=row.name), left).rows
                # Whoever paused one wants it to stay so.
                ids = [item.id for item in pinned if item.status != "paused"]
                if ids:
                    body = {"ids": ids, "deployment": "latest"}
                    answer = post(admin, "/invocations/resume", body, OperationAnswer)
                    results += answer.results
    return Handover(
        sum(1 for result in results if result.outcome == "done"),
        [result.message for result in results if result.outcome == "refused"],
    )
