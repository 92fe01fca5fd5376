"""For tests of Perdure and of what is built with it: a whole node in one process.

Imports any part.
"""

from .in_process import InProcessNode

__all__ = ["InProcessNode"]
