"""Asking every node of a cluster at the same time, each at its own admin REST."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, NamedTuple, TypeVar

from ...core.errors import PerdureError, TransportError
from ..cluster import ClusterStatus
from .admin_client import get

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


def admin_of(status: ClusterStatus, name: str, admin: str) -> str | None:
    """Where a node's admin REST is; None where it has none.

    The node that has answered is asked where it was asked before: its own address may be one that
    only machines beside it can use.
    """
    if name == status.me:
        return admin
    node = status.node(name)
    return None if node is None else node.addresses.admin or None


def ask_everybody(
    status: ClusterStatus,
    admin: str,
    ask: Callable[[str], _Told],
    *,
    names: set[str] | None = None,
) -> Mapping[str, Answer[_Told]]:
    """What `ask` gets from each node, called with where its admin REST is, in threads.

    Args:
        names: only these.
    """
    chosen = [node.name for node in status.nodes if names is None or node.name in names]
    if not chosen:
        return {}

    def one(name: str) -> Answer[_Told]:
        address = admin_of(status, name, admin)
        if address is None:
            return Answer(None, TransportError(f"node {name} has no admin REST"))
        try:
            return Answer(ask(address), None)
        except PerdureError as error:
            return Answer(None, error)

    with ThreadPoolExecutor(min(_AT_ONCE, len(chosen))) as threads:
        return dict(zip(chosen, threads.map(one, chosen), strict=True))
