"""Kills the process groups it was told of when its standard input ends.

The harness stops what it started on every exit that it lives to see. When it is killed outright it
sees nothing, but the pipe to this process closes, and servers that would hold ports and turn the
processors for ever end with it. Lines: ``+GROUP`` when one starts, ``-GROUP`` when it has stopped.
"""

import os
import signal
import sys


def main() -> None:
    """Follow the lines, then end what is left."""
    # An interrupt at the terminal reaches the whole group; the harness decides, not this process.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)

    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
