"""``perdure`` whose nodes write a record that nobody can apply, once they get SIGUSR1.

It goes into the log of partition 0 where the node leads that, by the leader's own way: so it is
what a release with a fault would write. Everything else is as it is.
"""

import asyncio
import signal
import sys

from perdure.admin.cli.main import run
from perdure.node.engine import NodeEngine
from perdure.partition_processor.proposals import Proposal

POISON_KIND = 99
"""No release knows it."""

_start = NodeEngine.start


def poison(engine: NodeEngine) -> None:
    """Write the record, and something sound behind it."""
    processor = engine.manager.processors[0]
    proposals = processor._proposals
    if processor.leading and proposals is not None:
        proposals.propose(Proposal(POISON_KIND, b"", (), 0, None, None, None))


async def _start_listening(self: NodeEngine) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, poison, self)
    await _start(self)


if __name__ == "__main__":
    NodeEngine.start = _start_listening  # type: ignore[method-assign]
    sys.exit(run(sys.argv[1:]))
