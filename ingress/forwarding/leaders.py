"""Who leads which partition: the port that asks, and a table for whoever knows."""

from collections.abc import Callable
from typing import Protocol


class LeaderLookup(Protocol):
    """Which node leads a partition, as far as this node knows; on the event loop's thread."""

    def leader(self, partition: int) -> str | None:
        """The name of the node, None while nobody is known to lead. May be out of date."""
        ...

    def subscribe(self, on_change: Callable[[int], None]) -> None:
        """Have `on_change` called with each partition whose leader is another one now."""
        ...


class LeaderTable:
    """A `LeaderLookup` that is told."""

    def __init__(self) -> None:
        """Know of no leader."""
        self._leaders: dict[int, str] = {}
        self._listeners: list[Callable[[int], None]] = []

    def leader(self, partition: int) -> str | None:
        """The name of the node, None while nobody is known to lead."""
        return self._leaders.get(partition)

    def subscribe(self, on_change: Callable[[int], None]) -> None:
        """Have `on_change` called with each partition whose leader is another one now."""
        self._listeners.append(on_change)

    def set(self, partition: int, node: str | None) -> None:
        """A node leads the partition from now on, or nobody is known to."""
        if self._leaders.get(partition) == node:
            return
        if node is None:
            del self._leaders[partition]
        else:
            self._leaders[partition] = node
        for listener in tuple(self._listeners):
            listener(partition)
