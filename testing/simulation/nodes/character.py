"""What a world of whole nodes is like: drawn once from its seed."""

from dataclasses import dataclass

from ..chance import Chance
from ..cluster.faults import GAPS
from .faults import DISK_LOST, KINDS
from .member import MS, SNAPSHOTS, address_of


@dataclass(frozen=True, slots=True)
class Character:
    """How many nodes there are, what they are set to, how slow everything is, what befalls them.

    Attributes:
        delay_ns_max: of a message.
        cut_heard_ns_max: until an end hears that its connection was cut.
        sync_delay_ns_max: of a disk whose syncs run beside the loop.
        names: of the nodes.
        metadata_servers: how many of them keep the metadata, the first ones.
        partitions: how many there are.
        settings: options that all nodes share.
        kinds: names of faults.
        gap_ns: how long it is quiet between two, least and most.
        workers: how many there are.
        clients: so many, each with so many operations.
    """

    delay_ns_max: int
    cut_heard_ns_max: int
    sync_delay_ns_max: int
    names: tuple[str, ...]
    metadata_servers: int
    partitions: int
    settings: dict[str, str]
    kinds: tuple[str, ...]
    gap_ns: tuple[int, int]
    workers: int
    clients: tuple[int, ...]


def draw_character(
    chance: Chance,
    *,
    count: int,
    kinds: tuple[str, ...] | None,
    gap_ns: tuple[int, int] | None,
    operations: tuple[int, int],
) -> Character:
    """Draw everything that is not given; a count of 0 is none."""
    count = count or chance.pick((3, 3, 3, 4, 5))
    names = tuple(f"node-{number}" for number in range(1, count + 1))
    servers = chance.pick((1, 3, 3, 3, 3) if count < 5 else (3, 5))
    partitions = chance.pick((1, 2, 4))
    settings = {
        "cluster.metadata_servers": ",".join(map(address_of, names[:servers])),
        "cluster.replicas": str(chance.pick((2, 2, 3))),
        "cluster.log_copies": str(chance.pick((2, 2, 2, 3) if count > 3 else (2,))),
        "partitions.count": str(partitions),
        "log.sync_inline": chance.pick(("always", "never")),
        "retry.inactivity_timeout": chance.pick(("50ms", "60s")),
        "retry.abort_timeout": chance.pick(("500ms", "10m")),
        "snapshots.directory": SNAPSHOTS if chance.happens(0.5) else "",
        "snapshots.interval_records": str(chance.pick((15, 60))),
        "snapshots.interval": "1s",
    }
    drawn = tuple(kind for kind in KINDS if chance.happens(0.4)) or KINDS
    if chance.happens(0.2):
        drawn += (DISK_LOST,)
    return Character(
        delay_ns_max=chance.pick((300_000, 2 * MS, 12 * MS)),
        cut_heard_ns_max=chance.pick((0, 5 * MS, 200 * MS)),
        sync_delay_ns_max=chance.pick((100_000, 2 * MS, 20 * MS)),
        names=names,
        metadata_servers=servers,
        partitions=partitions,
        settings=settings,
        kinds=kinds or drawn,
        gap_ns=gap_ns or chance.pick(GAPS),
        workers=chance.between(2, 3),
        clients=tuple(chance.between(*operations) for _ in range(chance.between(2, 4))),
    )
