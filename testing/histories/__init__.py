"""Generated histories: the real partitions, front and attempts in an order drawn from a seed.

`run_history` runs one; everything else here is what a history is made of. Where `simulation` runs
whole nodes on a simulated loop, network and disk, a history leaves out what only carries bytes, and
so is some hundred times faster. Imports any part.
"""

from .history import HistoryOptions
from .run import HistoryReport, run_history

__all__ = ["HistoryOptions", "HistoryReport", "run_history"]
