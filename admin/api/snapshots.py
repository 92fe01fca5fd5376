"""The snapshots of partitions over admin REST: list them, and have some taken."""

from typing import Final, Literal
from urllib.parse import urlencode

import msgspec

from ...core.errors import PerdureError
from ...partition_processor.processor import PartitionProcessor
from ..elsewhere import Question
from ..errors import AdminRequestError, NoSuchResourceError
from ..view import AdminView
from .parameters import NUMBER_MAX, Parameters, decode_body, partitions_text
from .reach import Led, Reach, asked_partitions
from .routes import Request, Route
from .snapshot_answers import (
    SnapshotList,
    SnapshotOutcome,
    SnapshotProblem,
    SnapshotsCreated,
    snapshot_view,
)

LED_PATH: Final = "/led/snapshots"
"""Where another node has those taken that this one leads."""
_FORM: Final = '{"partition": its number} or {"all": true}'


class CreateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of which partitions a snapshot is to be taken: one, or all."""

    partition: int | None = None
    all: bool = False


class LedSnapshots(Led, frozen=True, kw_only=True):
    """What became of the snapshots of one node's partitions."""

    snapshots: list[SnapshotOutcome]


class SnapshotsApi:
    """``/snapshots``. Everything raises what `Snapshots` raises."""

    def __init__(self, view: AdminView, reach: Reach) -> None:
        """Take the node, and how it answers for the whole cluster."""
        self._view = view
        self._reach = reach

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("GET", "/snapshots", self.list_snapshots),
            Route("POST", "/snapshots", self.create),
        ]

    def peer_routes(self) -> list[Route]:
        """What other nodes ask."""
        return [
            Route("POST", "/snapshots", self.create),
            Route("POST", LED_PATH, self._create_led),
            Route("GET", "/snapshots", self.list_snapshots),
        ]

    async def list_snapshots(self, request: Request) -> SnapshotList:
        """The snapshots that there are, of one partition or of all."""
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

    async def create(self, request: Request) -> object:
        """Have snapshots taken by the nodes that lead the partitions, one after the other at each.

        Answers when all are durable.
        """
        body = decode_body(request.body, CreateBody, _FORM)
        if (body.partition is None) != body.all:
            raise AdminRequestError(f"say which partitions are meant: send {_FORM}")
        if body.partition is not None:
            return await self._create_one(self._processors(body.partition)[0], request.body)
        gathered = await self._reach.of_partitions(
            range(len(self._view.manager.processors)),
            lambda partitions: Question(
                "POST", LED_PATH, urlencode({"partitions": partitions_text(partitions)})
            ),
            LedSnapshots,
            self._create_all,
        )
        outcomes = [outcome for answer in gathered.answers for outcome in answer.snapshots]
        outcomes += [
            SnapshotOutcome(
                partition, "failed", None, SnapshotProblem(missing.code, missing.message)
            )
            for missing in gathered.missing
            for partition in missing.partitions
        ]
        return SnapshotsCreated(sorted(outcomes, key=lambda outcome: outcome.partition))

    async def _create_one(self, processor: PartitionProcessor, body: bytes) -> object:
        async def here() -> SnapshotsCreated:
            return SnapshotsCreated([await self._create(processor)])

        return await self._reach.at_leader(
            processor.partition, Question("POST", "/snapshots", body=body), here
        )

    async def _create_led(self, request: Request) -> LedSnapshots:
        parameters = Parameters(request.query, ("partitions",))
        return await self._create_all(asked_partitions(self._view, parameters))

    async def _create_all(self, partitions: list[int]) -> LedSnapshots:
        """Snapshots of those partitions that this node leads."""
        told: list[int] = []
        outcomes: list[SnapshotOutcome] = []
        for processor in (self._view.manager.processors[partition] for partition in partitions):
            if self._view.manager.is_elsewhere(processor.partition):
                continue
            told.append(processor.partition)
            try:
                outcomes.append(await self._create(processor))
            except PerdureError as error:
                outcomes.append(
                    SnapshotOutcome(processor.partition, "failed", None, _problem(error))
                )
        return LedSnapshots(told=told, snapshots=outcomes)

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
