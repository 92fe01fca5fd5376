"""What can be wrong with a local cluster before it runs."""

from ...core.errors import PerdureError


class ForeignDirectoryError(PerdureError):
    """A directory holds something else than the local cluster that was asked for."""

    code = "PD1140"


class DirectoryInUseError(PerdureError):
    """Another launcher runs the local cluster of this directory."""

    code = "PD1141"


class NodeEndedError(PerdureError):
    """A node of a local cluster ended before the cluster was ready."""

    code = "PD1142"
