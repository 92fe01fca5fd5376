"""What the directory of a local cluster holds: its plan, a lock, and a folder and a log per node.

Nodes find one another, and their metadata servers, by addresses that they have stored. So names and
ports are chosen once, written down before the first node starts, and the same ever after.
"""

import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from ...core.errors import AddressInUseError
from .errors import DirectoryInUseError, ForeignDirectoryError
from .ports import DOORS, Addresses, PortClaim, addresses_from, choose_ports, every

PLAN_FILE: Final = "local-cluster.json"
LOCK_FILE: Final = "local-cluster.lock"
PLAN_FORMAT: Final = 1
NODES_MAX: Final = 9
"""As many as there are keys to kill them by."""
NODES_DEFAULT: Final = 3
CLUSTER_NAME: Final = "local"


class NodePlan(msgspec.Struct, frozen=True):
    """One node: its name and where each of its doors listens."""

    name: str
    addresses: Addresses


class ClusterPlan(msgspec.Struct, frozen=True):
    """A local cluster, as it stands in its directory.

    Attributes:
        metadata_servers: the names of the nodes that serve metadata; fixed at the first start.
    """

    format: int
    cluster: str
    nodes: tuple[NodePlan, ...]
    metadata_servers: tuple[str, ...]

    def metadata_addresses(self) -> list[str]:
        """Where metadata is served."""
        return [node.addresses["node"] for node in self.nodes if node.name in self.metadata_servers]


class ClusterDirectory:
    """The directory of one local cluster, held for as long as its launcher runs.

    Attributes:
        path: the directory.
        plan: what it holds.
        is_new: whether the plan was made now.
    """

    def __init__(
        self, path: Path, *, count: int | None = None, port_base: int | None = None
    ) -> None:
        """Take the directory, and what it holds or else make a plan.

        Args:
            count: nodes; what the directory has, or NODES_DEFAULT, where it is None.
            port_base: the first port; the usual ports, or free ones, where it is None.

        Raises ForeignDirectoryError, DirectoryInUseError or AddressInUseError.
        """
        self.path = path
        self._claim: PortClaim | None = None
        self._lock = self._take_lock()
        try:
            found = read_plan(path)
            self.is_new = found is None
            if found is None:
                count = count or NODES_DEFAULT
                addresses = self._new_ports(count, port_base)
                self.plan = plan_cluster(addresses)
                _write_plan(path, self.plan)
            else:
                _check_same(path, found, count, port_base)
                self.plan = found
                self._claim = self._claim_again(found)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others have directory and ports."""
        if self._claim is not None:
            self._claim.release()
        os.close(self._lock)

    def base_dir(self, node: NodePlan) -> Path:
        """Where a node stores."""
        return self.path / node.name

    def log_file(self, name: str) -> Path:
        """Where what a process prints is kept."""
        return self.path / f"{name}.log"

    def _take_lock(self) -> int:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # Nothing may be changed in a directory that is not ours, not even a lock laid down.
            _check_ours(self.path)
            lock = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ForeignDirectoryError(
                f"{self.path} cannot be written ({error.strerror}): choose another --base-dir"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise DirectoryInUseError(
                f"the cluster of {self.path} runs already: stop the `perdure up` that has it, or "
                "choose another --base-dir"
            ) from None
        return lock

    def _new_ports(self, count: int, port_base: int | None) -> list[Addresses]:
        if port_base is None:
            addresses, self._claim = choose_ports(count)
            return addresses
        addresses = addresses_from(port_base, count)
        try:
            self._claim = PortClaim(every(addresses))
        except AddressInUseError as error:
            raise AddressInUseError(
                f"{error.message}; stop the process that has the port, choose another --port-base, "
                "or leave it out to have free ports chosen"
            ) from None
        return addresses

    def _claim_again(self, plan: ClusterPlan) -> PortClaim:
        try:
            return PortClaim(every(node.addresses for node in plan.nodes))
        except AddressInUseError as error:
            raise AddressInUseError(
                f"{error.message}; the cluster of {self.path} has had this port since its first "
                "start: stop the process that has it now, or start a new cluster with another "
                "--base-dir"
            ) from None


def plan_cluster(addresses: Sequence[Addresses]) -> ClusterPlan:
    """A new cluster of nodes n1, n2, … at these addresses."""
    nodes = tuple(NodePlan(f"n{number}", each) for number, each in enumerate(addresses, 1))
    servers = 5 if len(nodes) >= 5 else 3 if len(nodes) >= 3 else 1
    names = tuple(node.name for node in nodes[:servers])
    return ClusterPlan(PLAN_FORMAT, CLUSTER_NAME, nodes, names)


def read_plan(path: Path) -> ClusterPlan | None:
    """What the directory holds; None where it is new. Raises ForeignDirectoryError."""
    file = path / PLAN_FILE
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ForeignDirectoryError(f"{file} cannot be read: {error.strerror}") from None
    try:
        plan = msgspec.json.decode(content, type=ClusterPlan)
    except msgspec.MsgspecError as error:
        raise ForeignDirectoryError(
            f"{file} is not what `perdure up` writes ({error}): restore it, or choose another "
            "--base-dir"
        ) from None
    if plan.format != PLAN_FORMAT:
        raise ForeignDirectoryError(
            f"{file} has format {plan.format}, this release knows {PLAN_FORMAT}: run the release "
            "that wrote it, or choose another --base-dir"
        )
    if any(set(node.addresses) != set(DOORS) for node in plan.nodes) or not plan.nodes:
        raise ForeignDirectoryError(
            f"{file} has a node without its addresses: restore it, or choose another --base-dir"
        )
    return plan


def _check_ours(path: Path) -> None:
    names = set(os.listdir(path))
    if names - {LOCK_FILE, f"{PLAN_FILE}.new"} and PLAN_FILE not in names:
        raise ForeignDirectoryError(
            f"{path} holds something that is not a local cluster ({sorted(names)[0]}, for one): "
            "choose an empty --base-dir, or one that `perdure up` has made"
        )


def _check_same(path: Path, plan: ClusterPlan, count: int | None, port_base: int | None) -> None:
    if count is not None and count != len(plan.nodes):
        raise ForeignDirectoryError(
            f"{path} holds a cluster of {len(plan.nodes)} nodes, not {count}: leave --nodes out, "
            "or choose another --base-dir"
        )
    wanted = None if port_base is None else addresses_from(port_base, len(plan.nodes))
    if wanted is not None and wanted != [node.addresses for node in plan.nodes]:
        first = plan.nodes[0].addresses[DOORS[0]]
        raise ForeignDirectoryError(
            f"the cluster of {path} has its addresses since its first start, from {first} on: "
            "leave --port-base out, or choose another --base-dir"
        )


def _write_plan(path: Path, plan: ClusterPlan) -> None:
    """Whole or not at all, also after a power failure."""
    half = path / f"{PLAN_FILE}.new"
    with half.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(plan), indent=2))
        file.flush()
        os.fsync(file.fileno())
    half.replace(path / PLAN_FILE)
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
