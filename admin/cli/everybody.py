"""Asking every node of a cluster at the same time, by way of the one that is asked."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, NamedTuple, TypeVar

from ...core.errors import PerdureError
from ..cluster import ClusterStatus
from .admin_client import get, quoted

NODE_TIMEOUT_SECONDS: Final = 3.0
"""How long one node of many is waited for."""

_AT_ONCE: Final = 16
_Told = TypeVar("_Told")


class Answer(NamedTuple, Generic[_Told]):
    """What one node told, or why it did not."""

    told: _Told | None
    problem: PerdureError | None


def cluster_status(admin: str) -> ClusterStatus:
    """The cluster as the node sees it that `--admin` names. Raises what `get` raises."""
    return get(admin, "/cluster", ClusterStatus)


def admin_of(status: ClusterStatus, name: str, admin: str) -> str:
    """Where a node's own answers are had: at the node that is asked, which asks it.

    Nodes reach each other whatever their admin REST listens on.
    """
    alone = len(status.nodes) == 1
    return admin if alone else f"{admin.rstrip('/')}/cluster/nodes/{quoted(name)}/ask"


def ask_everybody(
    status: ClusterStatus,
    admin: str,
    ask: Callable[[str], _Told],
    *,
    names: set[str] | None = None,
) -> Mapping[str, Answer[_Told]]:
    """What `ask` gets from each node, called with where its answers are had, in threads.

    Args:
        names: only these.
    """
    chosen = [node.name for node in status.nodes if names is None or node.name in names]
    if not chosen:
        return {}

    def one(name: str) -> Answer[_Told]:
        try:
            return Answer(ask(admin_of(status, name, admin)), None)
        except PerdureError as error:
            return Answer(None, error)

    with ThreadPoolExecutor(min(_AT_ONCE, len(chosen))) as threads:
        return dict(zip(chosen, threads.map(one, chosen), strict=True))
