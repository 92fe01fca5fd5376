"""The snapshots of partitions over admin REST: list them, and have some taken."""

from typing import Final, Literal

import msgspec

from ...core.errors import PerdureError
from ...partition_processor.processor import PartitionProcessor
from ..errors import AdminRequestError, NoSuchResourceError
from ..view import AdminView
from .parameters import NUMBER_MAX, Parameters, decode_body
from .routes import Request, Route
from .snapshot_answers import (
    SnapshotList,
    SnapshotOutcome,
    SnapshotProblem,
    SnapshotsCreated,
    snapshot_view,
)

_FORM: Final = '{"partition": its number} or {"all": true}'


class CreateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of which partitions a snapshot is to be taken: one, or all of this node."""

    partition: int | None = None
    all: bool = False


class SnapshotsApi:
    """``/snapshots``. Everything raises what `Snapshots` raises."""

    def __init__(self, view: AdminView) -> None:
        """Take the node."""
        self._view = view

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/snapshots", self.list_snapshots),
            Route("POST", "/snapshots", self.create),
        ]

    async def list_snapshots(self, request: Request) -> SnapshotList:
        """The snapshots that there are, of one partition or of all that this node has."""
        partition = Parameters(request.query, ("partition",)).number("partition", 0, NUMBER_MAX)
        chosen = self._processors(partition)
        found, problems = await self._view.snapshots.list_complete(
            [processor.partition for processor in chosen]
        )
        return SnapshotList(
            self._view.snapshots.place,
            [snapshot_view(manifest) for manifest in found],
            [_problem(error) for error in problems],
        )

    async def create(self, request: Request) -> SnapshotsCreated:
        """Take snapshots, one after the other; answers when all are durable."""
        body = decode_body(request.body, CreateBody, _FORM)
        if (body.partition is None) != body.all:
            raise AdminRequestError(f"say which partitions are meant: send {_FORM}")
        outcomes: list[SnapshotOutcome] = []
        for processor in self._processors(body.partition):
            try:
                outcomes.append(await self._create(processor))
            except PerdureError as error:
                if not body.all:
                    raise
                outcomes.append(
                    SnapshotOutcome(processor.partition, "failed", None, _problem(error))
                )
        return SnapshotsCreated(outcomes)

    async def _create(self, processor: PartitionProcessor) -> SnapshotOutcome:
        manifest, created = await self._view.snapshots.create(processor)
        status: Literal["created", "unchanged"] = "created" if created else "unchanged"
        return SnapshotOutcome(processor.partition, status, snapshot_view(manifest))

    def _processors(self, partition: int | None) -> list[PartitionProcessor]:
        """One partition, or all. Raises NoSuchResourceError."""
        processors = self._view.manager.processors
        if partition is None:
            return processors
        if not 0 <= partition < len(processors):
            raise NoSuchResourceError(
                f"this node has no partition {partition}; GET /partitions lists those it has"
            )
        return [processors[partition]]


def _problem(error: PerdureError) -> SnapshotProblem:
    return SnapshotProblem(error.code, error.message)
