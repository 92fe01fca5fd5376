"""Having invocations that began with older code go on with the code that is served now."""

from typing import Final

from ...api.invocation_answers import InvocationRow, OperationAnswer
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


def hand_over(admin: str, deployment: str) -> int:
    """Move up to MOVED_MAX invocations that are pinned to a deployment without workers; how many.

    One whose handler the new code lacks stays. Raises TransportError or RemoteError.
    """
    moved = 0
    for row in get(admin, "/deployments", DeploymentList).deployments:
        if row.name != deployment and row.pinned and not row.workers:
            left = MOVED_MAX - moved
            if left:
                pinned = select(admin, Filters(deployment=row.name), left).rows
                # Whoever paused one wants it to stay so.
                moved += _move(admin, [item for item in pinned if item.status != "paused"])
    return moved


def _move(admin: str, rows: list[InvocationRow]) -> int:
    if not rows:
        return 0
    # What has an attempt, or waits for one, keeps its code until the attempt is taken away.
    active = [row.id for row in rows if row.status in ("ready", "running", "backing-off")]
    if active:
        post(admin, "/invocations/pause", {"ids": active}, OperationAnswer)
    body = {"ids": [row.id for row in rows], "deployment": "latest"}
    results = post(admin, "/invocations/resume", body, OperationAnswer).results
    return sum(1 for result in results if result.outcome == "done")
