"""Asking the admin REST of other nodes, over the connections between nodes.

What listens for operators may be bound to loopback; where nodes listen for each other every node of
the cluster can be reached, and strangers are let go.
"""

from .asking import PeerAsker
from .frames import ADMIN_SERVICE
from .serving import PeerAnswers

__all__ = ["ADMIN_SERVICE", "PeerAnswers", "PeerAsker"]
