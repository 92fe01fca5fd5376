"""The live view of a local cluster, on a terminal of its own, with keys."""

import os
import select
import sys
import termios
import textwrap
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

from ..columns import columns_that_fit
from ..output import printable
from .plain import changes

if TYPE_CHECKING:
    from ....node.local_cluster.picture import ClusterPicture, NodePicture, PartitionPicture
    from .loop import Stop

EVENTS_KEPT: Final = 200
LAST_WORDS: Final = 10
HEADING_ROWS: Final = 2
"""Of a table: the names of its columns, and a line."""
EVENT_ROWS_MIN: Final = 3
"""Kept free for events, beside what can be left out."""
GROUP_COLUMNS: Final = 22
COLUMN_GAP: Final = 2
STATE_WIDTH_MIN: Final = len("killed by SIGKILL")
"""So that columns stay where they are when a node is killed."""
NODE_COLUMNS: Final = (
    "KEY", "NODE", "STATE", "PID", "LEADS", "FOLLOWS", "LAG", "RECORDS/S", "HTTP", "ADMIN",
)  # fmt: skip
_RIGHT: Final = ("PID", "LEADS", "FOLLOWS", "LAG", "RECORDS/S")
_DISPENSABLE: Final = ("PID", "ADMIN", "FOLLOWS", "HTTP", "RECORDS/S", "LAG")
"""Columns that a narrow terminal does without, the first of them first."""
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
        return [printable(event) for event in list(self._events)[-LAST_WORDS:]]

    # Drawing ---------------------------------------------------------------------------

    def draw(self, picture: "ClusterPicture") -> Group:
        """Everything, in as many lines as the terminal has; nodes and keys before the rest."""
        size = self._console.size
        left = size.height - 1 - HEADING_ROWS - len(picture.nodes) - 1
        parts: list[Any] = [self._head(picture), self._nodes(picture, size.width)]
        workers = self._workers(picture)
        if len(workers) > max(1, left - HEADING_ROWS - 2 * EVENT_ROWS_MIN):
            runs = sum(worker.runs for worker in picture.workers)
            workers = [_line(f"{runs} of {len(workers)} workers run")]
        workers = workers[: max(0, left)]
        parts += workers
        left -= len(workers)
        groups = max(1, size.width // GROUP_COLUMNS)
        rows = min(-(-len(picture.partitions) // groups), left - HEADING_ROWS - EVENT_ROWS_MIN)
        if rows > 0:
            parts.append(self._partitions(_foremost(picture.partitions, rows * groups), rows))
            left -= rows + HEADING_ROWS
        parts += [_line(line) for line in self._last_events(size.width, left)]
        parts.append(_line(_KEYS, style="dim"))
        return Group(*parts)

    def _head(self, picture: "ClusterPicture") -> Text:
        rate = sum(node.records_per_second or 0.0 for node in picture.nodes)
        unled = sum(row.leader is None for row in picture.partitions)
        head = _line(f"cluster {picture.cluster}", style="bold")
        head.append(f"  {len(picture.partitions)} partitions", style="default")
        if unled or not picture.partitions:
            head.append(f", {unled or 'none'} without a leader", style="yellow")
        head.append(f"  {rate:,.0f} records/s  data in {self._where}", style="default")
        return head

    def _last_events(self, width: int, rows: int) -> list[str]:
        """As many rows of the newest events as there are, whole where they are long."""
        lines: list[str] = []
        for event in reversed(self._events):
            if len(lines) >= rows:
                break
            lines[:0] = textwrap.wrap(printable(event), max(width, 20), subsequent_indent="  ")
        return lines[-rows:] if rows > 0 else []

    def _nodes(self, picture: "ClusterPicture", width: int) -> Table:
        rows = [_node_cells(number, node) for number, node in enumerate(picture.nodes, 1)]
        widths = [
            max([len(name), *(len(row[column]) for row in rows)])
            for column, name in enumerate(NODE_COLUMNS)
        ]
        state = NODE_COLUMNS.index("STATE")
        widths[state] = max(widths[state], STATE_WIDTH_MIN)
        shown = columns_that_fit(
            widths,
            width,
            gap=COLUMN_GAP,
            dispensable=[NODE_COLUMNS.index(name) for name in _DISPENSABLE],
        )
        table = Table(
            box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, COLUMN_GAP - 1, 0, 0)
        )
        for column in shown:
            name = NODE_COLUMNS[column]
            right = name in _RIGHT
            table.add_column(
                name,
                justify="right" if right else "left",
                no_wrap=True,
                min_width=STATE_WIDTH_MIN if column == state else None,
            )
        for row in rows:
            table.add_row(*(row[column] for column in shown))
        return table

    def _workers(self, picture: "ClusterPicture") -> list[Text]:
        return [
            _line(f"{worker.name}  runs, pid {worker.pid}", style="green")
            if worker.runs
            else _line(f"{worker.name}  {worker.ending or 'not started yet'}", style="red")
            for worker in picture.workers
        ]

    def _partitions(self, partitions: Sequence["PartitionPicture"], rows: int) -> Table:
        """In several groups side by side, as there are many; a number, its leader, its lag."""
        groups = -(-len(partitions) // rows)
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


def _line(text: str, style: str = "") -> Text:
    """One row of the screen, whatever its width."""
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _foremost(partitions: Sequence["PartitionPicture"], count: int) -> list["PartitionPicture"]:
    """So many of them, in their order: where there is no room for all, those that want a look."""
    by_need = sorted(partitions, key=lambda row: (row.leads_now, row.lag == 0, row.partition))
    return sorted(by_need[:count], key=lambda row: row.partition)


def _node_cells(number: int, node: "NodePicture") -> list[Text]:
    knows = node.condition == "ready"
    rate = node.records_per_second
    cells = (
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
    return [cell if isinstance(cell, Text) else Text(cell) for cell in cells]


def _state(node: "NodePicture") -> Text:
    text = Text(node.ending or node.condition, style=_STYLES[node.condition])
    if node.seen_as in ("suspect", "dead") and not node.ending:
        text.append(f" ({node.seen_as})", style="magenta")
    return text
