"""Worlds of whole nodes: the server of a node as it is, three to five times, with every fault.

`run_nodes_seed` runs one; the same seed gives the same bytes.
"""

from .run import NodesReport, run_nodes_seed, run_nodes_seed_twice
from .world import NodesOptions, NodesWorld

__all__ = [
    "NodesOptions",
    "NodesReport",
    "NodesWorld",
    "run_nodes_seed",
    "run_nodes_seed_twice",
]
