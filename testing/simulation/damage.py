"""Damage that no log can mend: its disk loses a batch that it had made durable."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from ...core.errors import PerdureError
from ...log.errors import CorruptBatchError
from .chance import Chance
from .disk import SimulationDisk
from .observer import BATCH_ROWS, LogObserver
from .violation import require

_LOGLET_BYTES: Final = 8


@dataclass(slots=True)
class Damage:
    """A batch that is gone.

    Attributes:
        loglet: whose it was.
        lsns: of its records.
        found: whether somebody was told.
    """

    loglet: int
    lsns: list[int]
    found: bool = False

    def explains(self, error: PerdureError) -> bool:
        """Whether an error reports this; from then on it counts as found.

        Raises InvariantViolation when the error names another place.
        """
        if not isinstance(error, CorruptBatchError):
            return False
        require(error.loglet == self.loglet, "an error names the place", f"{self}: {error}")
        self.found = True
        return True


def lose_batch(
    disk: SimulationDisk, observer: LogObserver, chance: Chance, *, above_lsn: int = 0
) -> Damage | None:
    """Lose a durable batch above an LSN that is not the last one of its loglet; None for none."""
    prefix = observer.rows_prefix
    loglet_end = len(BATCH_ROWS) + _LOGLET_BYTES
    rows = disk.rows()
    keys = sorted(key for key in rows if key.startswith(prefix))
    candidates = [
        key
        for key, following in pairwise(keys)
        if key[:loglet_end] == following[:loglet_end]
        # Were the next one lost in a crash, nobody could know that this one was ever there.
        and disk.durable(key)
        and disk.durable(following)
        and observer.lsns({key: rows[key]})[0] > above_lsn
    ]
    if not candidates:
        return None
    key = chance.pick(candidates)
    lost = {key: rows[key]}
    damage = Damage(int.from_bytes(key[len(BATCH_ROWS) : loglet_end]), observer.lsns(lost))
    observer.batch_lost(lost)
    disk.lose(key)
    return damage
