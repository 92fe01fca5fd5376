"""The live view of a local cluster, on a terminal of its own, with keys."""

import os
import select
import sys
import termios
import tty
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..output import printable
from .plain import changes

if TYPE_CHECKING:
    from ....node.local_cluster.picture import ClusterPicture, NodePicture, PartitionPicture
    from .loop import Stop

EVENTS_KEPT: Final = 200
ROWS_BESIDE_EVENTS: Final = 10
"""Lines of the screen that are neither a node's, a worker's, a partition's nor an event."""
GROUP_COLUMNS: Final = 22
_KEYS: Final = "1-9 kill a node or bring it back · w start ended workers · q quit"
_STYLES: Final = {
    "ready": "green",
    "starting": "yellow",
    "joining": "yellow",
    "silent": "magenta",
    "ended": "red",
}


class LiveView:
    """Shows the cluster in place, until it is left; takes keys one by one."""

    def __init__(self, where: str, console: Console | None = None) -> None:
        """Take where data goes, in words."""
        self._where = where
        self._console = console or Console(highlight=False)
        self._events: deque[str] = deque(maxlen=EVENTS_KEPT)
        self._before: ClusterPicture | None = None
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._terminal: list[Any] | None = None

    def __enter__(self) -> "LiveView":
        """Take the screen, and have keys come without a return."""
        if sys.stdin.isatty():
            self._terminal = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        try:
            self._live.start()
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give everything back as it was."""
        with suppress(OSError):
            self._live.stop()
        self._give_back()

    def _give_back(self) -> None:
        if self._terminal is not None:
            with suppress(termios.error):
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._terminal)

    def show(self, picture: "ClusterPicture") -> None:
        """Draw how everything is."""
        self._events.extend(changes(self._before, picture))
        self._before = picture
        self._refresh(picture)

    def _refresh(self, picture: "ClusterPicture") -> None:
        # A terminal that is gone must not keep nodes from ending in order; `key` tells of it.
        with suppress(OSError):
            self._live.update(self.draw(picture), refresh=True)

    def ready(self, picture: "ClusterPicture") -> None:
        """Say so."""
        self._events.append(f"ready: all {len(picture.partitions)} partitions are led")

    def say(self, text: str) -> None:
        """Add an event."""
        self._events.append(text)
        if self._before is not None:
            self._refresh(self._before)

    def key(self, seconds: float, stop: "Stop") -> str:
        """A key, if one comes in so long."""
        if stop.requested.is_set():
            return ""
        if not select.select([sys.stdin], [], [], seconds)[0]:
            return ""
        try:
            read = os.read(sys.stdin.fileno(), 1)
        except OSError:
            read = b""
        # No more will come from a terminal that is gone.
        return read.decode(errors="ignore") if read else "q"

    def last_words(self) -> Sequence[str]:
        """What is left to read when the screen is given back."""
        return [printable(event) for event in list(self._events)[-ROWS_BESIDE_EVENTS:]]

    # Drawing ---------------------------------------------------------------------------

    def draw(self, picture: "ClusterPicture") -> Group:
        """Everything, in as many lines as the terminal has."""
        rate = sum(node.records_per_second or 0.0 for node in picture.nodes)
        unled = sum(row.leader is None for row in picture.partitions)
        head = Text(f"cluster {picture.cluster}", style="bold")
        head.append(f"  {len(picture.partitions)} partitions", style="default")
        if unled or not picture.partitions:
            head.append(f", {unled or 'none'} without a leader", style="yellow")
        head.append(f"  {rate:,.0f} records/s  data in {self._where}", style="default")
        parts: list[Any] = [head, self._nodes(picture), *self._workers(picture)]
        groups = max(1, self._console.width // GROUP_COLUMNS)
        rows = -(-len(picture.partitions) // groups)
        if picture.partitions:
            parts.append(self._partitions(picture.partitions, groups, rows))
        used = len(picture.nodes) + len(picture.workers) + rows + ROWS_BESIDE_EVENTS
        left = max(3, self._console.height - used)
        lines = list(self._events)[-left:]
        parts += [Text(printable(line), no_wrap=True, overflow="ellipsis") for line in lines]
        parts.append(Text(_KEYS, style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(*parts)

    def _nodes(self, picture: "ClusterPicture") -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        columns = ("KEY", "NODE", "STATE", "PID", "LEADS", "FOLLOWS", "LAG", "RECORDS/S", "HTTP")
        for name in (*columns, "ADMIN"):
            right = name in ("PID", "LEADS", "FOLLOWS", "LAG", "RECORDS/S")
            table.add_column(name, justify="right" if right else "left", no_wrap=True)
        for number, node in enumerate(picture.nodes, 1):
            knows = node.condition == "ready"
            rate = node.records_per_second
            table.add_row(
                str(number),
                node.name,
                _state(node),
                "-" if node.pid is None else str(node.pid),
                str(node.leads) if knows else "-",
                str(node.follows) if knows else "-",
                str(node.lag) if knows else "-",
                "-" if rate is None or not knows else f"{rate:,.0f}",
                node.addresses["ingress_http"],
                node.addresses["admin"],
            )
        return table

    def _workers(self, picture: "ClusterPicture") -> list[Text]:
        return [
            Text(f"{worker.name}  runs, pid {worker.pid}", style="green")
            if worker.runs
            else Text(f"{worker.name}  {worker.ending or 'not started yet'}", style="red")
            for worker in picture.workers
        ]

    def _partitions(
        self, partitions: Sequence["PartitionPicture"], groups: int, rows: int
    ) -> Table:
        """In several groups side by side, as there are many; a number, its leader, its lag."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        for _ in range(groups):
            table.add_column("PART", justify="right", no_wrap=True)
            table.add_column("LEADER", no_wrap=True)
            table.add_column("LAG", justify="right", no_wrap=True, min_width=5)
        for row in range(rows):
            cells: list[Text] = []
            for partition in partitions[row::rows]:
                lead = partition.leader or "nobody"
                style = "green" if partition.leads_now else "yellow" if partition.leader else "red"
                lag = Text(str(partition.lag), style="yellow" if partition.lag else "dim")
                cells += [Text(str(partition.partition)), Text(lead, style=style), lag]
            table.add_row(*cells)
        return table


def _state(node: "NodePicture") -> Text:
    text = Text(node.ending or node.condition, style=_STYLES[node.condition])
    if node.seen_as in ("suspect", "dead") and not node.ending:
        text.append(f" ({node.seen_as})", style="magenta")
    return text
