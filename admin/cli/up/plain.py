"""What changes in a local cluster, as lines; on stdout, or on stderr when stdout is for JSON."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..output import printable

if TYPE_CHECKING:
    from ....node.local_cluster.picture import ClusterPicture, NodePicture
    from .loop import Stop

PARTITIONS_NAMED = 12


def changes(before: "ClusterPicture | None", after: "ClusterPicture") -> Iterator[str]:
    """A line for each thing that is not as it was; none for positions, lag and rates."""
    earlier = {} if before is None else {node.name: node for node in before.nodes}
    for node in after.nodes:
        yield from _node_changes(earlier.get(node.name), node)
    yield from _lead_changes(before, after)
    workers = {} if before is None else {worker.name: worker for worker in before.workers}
    for worker in after.workers:
        was = workers.get(worker.name)
        if worker.runs and (was is None or was.starts != worker.starts):
            yield f"{worker.name} is started, pid {worker.pid}"
        elif worker.ending and (was is None or not was.ending):
            yield f"{worker.name} has ended: {worker.ending}"
            yield from (f"  {line}" for line in worker.last_lines)
    known = set() if before is None else set(map(_gist, before.warnings))
    for warning in after.warnings:
        if _gist(warning) not in known:
            known.add(_gist(warning))
            yield f"warning: {warning}"


def _gist(warning: str) -> str:
    """The same for warnings that name other partitions, logs or counts: as leads move they do."""
    return re.sub(r"\b\d+(, \d+)*\b", "#", warning)


def _node_changes(was: "NodePicture | None", node: "NodePicture") -> Iterator[str]:
    started = was is None or was.starts != node.starts
    if started and node.pid is not None:
        yield f"{node.name} is started, pid {node.pid}"
    if node.ending and (started or was is None or not was.ending):
        yield f"{node.name} has ended: {node.ending}"
        yield from (f"  {line}" for line in node.last_lines)
    elif node.condition in ("ready", "silent") and (
        started or was is None or was.condition != node.condition
    ):
        said = "has joined" if node.condition == "ready" else "does not answer any more"
        yield f"{node.name} {said}"
    # Nodes that have just met are suspect for a moment: that is no news.
    if node.seen_as in ("suspect", "dead") and was is not None and was.seen_as == "alive":
        yield f"{node.name} is taken for {node.seen_as}"


def _lead_changes(before: "ClusterPicture | None", after: "ClusterPicture") -> Iterator[str]:
    led = {} if before is None else {row.partition: row for row in before.partitions}
    moved: dict[str | None, list[int]] = {}
    for row in after.partitions:
        was = led.get(row.partition)
        if row.leader != (None if was is None else was.leader):
            moved.setdefault(row.leader, []).append(row.partition)
    for leader, partitions in sorted(moved.items(), key=lambda item: item[0] or ""):
        who = "nobody leads" if leader is None else f"{leader} leads"
        yield f"{who} {_numbers(partitions)}"


def _numbers(partitions: list[int]) -> str:
    if len(partitions) > PARTITIONS_NAMED:
        return f"{len(partitions)} partitions"
    word = "partition" if len(partitions) == 1 else "partitions"
    return f"{word} {', '.join(map(str, partitions))}"


def addresses_of(picture: "ClusterPicture", directory: Path) -> dict[str, Any]:
    """What programs need to find the nodes."""
    return {
        "cluster": picture.cluster,
        "base_dir": str(directory),
        "partitions": len(picture.partitions),
        "nodes": [{"name": each.name, "pid": each.pid, **each.addresses} for each in picture.nodes],
    }


class PlainView:
    """Writes lines."""

    def __init__(self, where: str, directory: Path, *, json: bool) -> None:
        """Take where data goes, in words and as a path.

        Args:
            json: write one line of addresses on stdout when ready, and the rest on stderr.
        """
        self._directory = directory
        self._json = json
        self._before: ClusterPicture | None = None
        self.say(f"data goes to {where}, output of each node to {directory}/NAME.log")

    def show(self, picture: "ClusterPicture") -> None:
        """Write what has changed."""
        for line in changes(self._before, picture):
            self.say(line)
        self._before = picture

    def ready(self, picture: "ClusterPicture") -> None:
        """Write where the nodes are."""
        for node in picture.nodes:
            doors = ", ".join(f"{door} {address}" for door, address in node.addresses.items())
            self.say(f"{node.name}: {doors}")
        self.say(f"ready: all {len(picture.partitions)} partitions are led")
        if self._json:
            import msgspec

            print(msgspec.json.encode(addresses_of(picture, self._directory)).decode(), flush=True)

    def say(self, text: str) -> None:
        """Write a line."""
        out = sys.stderr if self._json else sys.stdout
        print(f"perdure up: {printable(text)}", file=out, flush=True)

    def key(self, seconds: float, stop: "Stop") -> str:
        """Nobody is there to press one."""
        stop.requested.wait(seconds)
        return ""
