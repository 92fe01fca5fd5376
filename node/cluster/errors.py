"""Why a node may not join, and why a change of the nodes configuration is refused."""

from ...core.errors import PerdureError


class ClusterRefusedError(PerdureError):
    """A node may not join, or the cluster may not be changed so; each subclass has its code.

    Attributes:
        field: the option or field that does not fit, such as ``node.cluster``.
    """

    code = "PD1110"

    def __init__(self, field: str, message: str) -> None:
        """Take the field and the sentence that says what is wrong and how to mend it."""
        super().__init__(f"{field}: {message}")
        self.field = field


class NotProvisionedError(ClusterRefusedError):
    """There is no cluster yet in this metadata store; somebody provisions it once."""

    code = "PD1111"
    retryable = True


class AlreadyProvisionedError(ClusterRefusedError):
    """The cluster was provisioned before; that happens once."""

    code = "PD1112"


class ClusterNameError(ClusterRefusedError):
    """The metadata store holds a cluster of another name."""

    code = "PD1113"


class FingerprintError(ClusterRefusedError):
    """The node's disk, or a peer, belongs to another cluster of the same name."""

    code = "PD1114"


class NameTakenError(ClusterRefusedError):
    """A node of this name runs already, on another disk."""

    code = "PD1115"


class StorageLostError(ClusterRefusedError):
    """The node's disk is not the one that the cluster knows under its name, nor a full copy."""

    code = "PD1116"


class NodeRemovedError(ClusterRefusedError):
    """The disk belongs to a node that was removed from the cluster."""

    code = "PD1117"


class SupersededError(ClusterRefusedError):
    """The same node was started again elsewhere; this process is its past."""

    code = "PD1118"


class LogsOnOneDiskError(ClusterRefusedError):
    """Logs of the cluster are on the disk of its only node, where another one could not read."""

    code = "PD1122"
    retryable = True


class UnknownNodeError(ClusterRefusedError):
    """The cluster has no such node."""

    code = "PD1119"


class NodeChangeError(ClusterRefusedError):
    """A change of a node or of the cluster is out of bounds, or not possible in its state."""

    code = "PD1120"
