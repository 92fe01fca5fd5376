"""Worlds of several nodes that find out who lives and where partitions are to be.

`run_cluster_seed` runs one; the same seed gives the same bytes.
"""

from .run import ClusterReport, run_cluster_seed, run_cluster_seed_twice
from .world import ClusterOptions, ClusterWorld

__all__ = [
    "ClusterOptions",
    "ClusterReport",
    "ClusterWorld",
    "run_cluster_seed",
    "run_cluster_seed_twice",
]
