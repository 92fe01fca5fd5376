"""Readers of a bare log: who counts what producers sent, who tails, and who trims behind them."""

from collections.abc import Iterable
from functools import partial

from ...core.errors import PerdureError
from ...log.producers import ProducerFilter
from ...log.reader import LogEntry, LogReader
from ...log.virtual_log import VirtualLog
from .chance import Chance
from .log_history import ReadCheck, place_of
from .log_life import LogLife, RawLog
from .violation import InvariantViolation, require
from .workload import MS


class Counter:
    """Follows the log and counts what its producers sent, as whoever interprets a log does.

    What it has counted and how far it has read are kept together and outlive the node.

    Attributes:
        counted: by producer's name the numbers of the groups that counted.
    """

    def __init__(self, raw: RawLog) -> None:
        """Begin at the first LSN."""
        self._check = ReadCheck(raw.history, "the counter", 1)
        self._filter = ProducerFilter()
        self.counted: dict[str, list[int]] = {}

    @property
    def next_lsn(self) -> int:
        """The first LSN that it has not read."""
        return self._check.next_lsn

    async def run(self, life: LogLife) -> None:
        """Read on, for as long as the life lasts. Raises InvariantViolation."""
        async for item in LogReader(life.log, self.next_lsn):
            self._check.take(item)
            require(isinstance(item, LogEntry), "nothing is trimmed that is needed", item)
            assert isinstance(item, LogEntry)
            record = item.record
            if record.producer is not None and self._filter.accept(record):
                place = place_of(record)
                if place.position == 0:
                    self.counted.setdefault(place.client, []).append(place.number)


class Tailer:
    """Follows the log from some LSN on, perhaps only some keys; meets trimmed places."""

    def __init__(self, raw: RawLog, chance: Chance, keys: Iterable[bytes]) -> None:
        """Draw where to begin, and whether to read everything."""
        self._keys = frozenset(keys) if chance.happens(0.5) else None
        self._check = ReadCheck(raw.history, "the tailer", 1, self._keys)
        self._bytes_max = chance.pick((1, 200, 1 << 20))

    async def run(self, life: LogLife) -> None:
        """Read on, for as long as the life lasts. Raises InvariantViolation."""
        reader = LogReader(
            life.log, self._check.next_lsn, keys=self._keys, bytes_max=self._bytes_max
        )
        async for item in reader:
            self._check.take(item)


class Trimmer:
    """Trims what the counter has read, now and then and not always all of it."""

    def __init__(self, raw: RawLog, counter: Counter, chance: Chance) -> None:
        """Draw how often."""
        self._raw = raw
        self._counter = counter
        self._chance = chance
        self._interval_ns = chance.pick((30, 100, 10_000)) * MS
        self._trim_point = 0

    async def run(self) -> None:
        """Trim until cancelled. Raises InvariantViolation."""
        raw = self._raw
        while True:
            await raw.loop.pause(self._interval_ns)
            life = await raw.up()
            wanted = self._chance.between(0, self._counter.next_lsn - 1)
            if wanted <= self._trim_point:
                continue
            raw.history.trim_asked = max(raw.history.trim_asked, wanted)
            point = await raw.within(life, partial(life.log.trim, wanted))
            if isinstance(point, int):
                require(
                    self._trim_point <= point <= raw.history.trim_asked,
                    "the trim point goes forward, no further than asked",
                    f"{point} after {self._trim_point}, {raw.history.trim_asked} was asked for",
                )
                self._trim_point = point


async def read_through(raw: RawLog, log: VirtualLog, who: str) -> None:
    """Read all that is left of a log, up to its tail. Raises PerdureError, InvariantViolation."""
    check = ReadCheck(raw.history, who, 1)
    tail = await log.find_tail()
    async for item in LogReader(log, 1, to_lsn=tail.lsn - 1):
        check.take(item)
    require(
        check.next_lsn == max(tail.lsn, 1),
        "each LSN is in exactly one item",
        f"{who} ends before {check.next_lsn}, the log before {tail.lsn}",
    )


async def look_for_damage(raw: RawLog, life: LogLife) -> None:
    """A batch that the disk has lost is reported, unless it is trimmed. Raises
    InvariantViolation.
    """
    assert raw.damage is not None
    lsns = raw.damage.lsns
    try:
        await read_through(raw, life.log, "who looks for damage")
    except PerdureError as error:
        raw.failed(life, error)
        return
    if life.log.trim_point_lsn < lsns[-1]:
        raise InvariantViolation("a lost batch is found", f"LSNs {lsns} are read as if they were")
