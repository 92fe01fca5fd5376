"""The first steps of a launched process: it ends when its launcher is gone, then it is `perdure`.

A launcher that is killed cannot stop what it has started. On Linux the kernel does that: it sends
SIGTERM when the launcher ends. Elsewhere the processes are left behind.
"""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> int:
    """Run a command line of `perdure`, which follows the launcher's process number."""
    launcher, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        # It may have gone before the kernel was told.
        if os.getppid() != int(launcher):
            return 1
    from ...admin.cli.main import run

    return run(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
