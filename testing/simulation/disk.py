"""SimulationDisk: the KvStore in memory, with the faults of disks and machines on demand.

A crash loses a suffix of the writes since the last sync, as the port's contract allows; a torn
write is one that was dropped whole, for the port promises that writes are atomic. Damage to what
was synced (`rot`) is outside the contract: whoever stores must find it by checksums.
"""

import zlib
from collections.abc import Callable, Iterable
from enum import Enum

from ...core.errors import StorageError
from ...core.storage.kv import PutOrDelete
from ...core.storage.memory import MemoryStore
from .chance import Chance
from .loop import SimulationLoop
from .trace import Trace


class PowerLoss(Enum):
    """Where in an operation the power fails."""

    BEFORE = "before"
    AFTER = "after"


class SimulationDisk(MemoryStore):
    """One store of one simulated machine.

    Attributes:
        name: what the trace calls it.
        faulty: a fault was asked for; whoever uses it may fail with StorageError.
        on_write: told of each write before it is made, or None.
        on_delete: told what each deletion of a range takes away, before it does, or None.
    """

    __slots__ = (
        "_chance",
        "_delay_ns_max",
        "_on_power_loss",
        "_power",
        "_trace",
        "faulty",
        "name",
        "on_delete",
        "on_write",
    )

    def __init__(
        self,
        name: str,
        *,
        trace: Trace,
        chance: Chance,
        sync_delay_ns_max: int = 0,
        content: dict[bytes, bytes] | None = None,
    ) -> None:
        """Start with `content`, durable, or empty."""
        super().__init__(content)
        self.name = name
        self.faulty = False
        self.on_write: Callable[[list[PutOrDelete]], None] | None = None
        self.on_delete: Callable[[dict[bytes, bytes]], None] | None = None
        self._trace = trace
        self._chance = chance
        self._delay_ns_max = sync_delay_ns_max
        self._power: tuple[int, PowerLoss] | None = None
        self._on_power_loss: Callable[[], None] | None = None

    # The port ------------------------------------------------------------------------------------

    def write(self, operations: list[PutOrDelete]) -> None:
        """Apply atomically. Raises StorageError when closed, poisoned, told, or out of power."""
        self._check_writable()
        checksum = 0
        for key, value in operations:
            checksum = zlib.crc32(value or b"-", zlib.crc32(key, checksum))
        self._trace.add(self.name, f"write of {len(operations)} rows, {checksum:08x}")
        if self.on_write is not None:
            self.on_write(operations)
        before, after = self._power_fails()
        if before:
            self._lose_power("write")
        super().write(operations)
        if after:
            self._lose_power("write")

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete the keys in [start, end). Raises StorageError as `write` does."""
        self._check_writable()
        rows = {key: self._data[key] for key in self._range(start, end)}
        self._trace.add(self.name, f"deletion of {len(rows)} rows from {start.hex()}")
        if self.on_delete is not None:
            self.on_delete(rows)
        before, after = self._power_fails()
        if before:
            self._lose_power("deletion")
        super().delete_range(start, end)
        if after:
            self._lose_power("deletion")

    def sync(self) -> None:
        """Make durable. Raises StorageError as `write` does."""
        self._check_writable()
        self._trace.add(self.name, f"sync of {self.unsynced_writes} writes")
        before, after = self._power_fails()
        if before:
            self._lose_power("sync")
        super().sync()
        if after:
            self._lose_power("sync")

    # Faults --------------------------------------------------------------------------------------

    def sync_delay_ns(self) -> int:
        """How long the next sync takes, drawn; for whoever runs syncs behind the loop."""
        return int(self._chance.fraction() * self._delay_ns_max)

    def fail_next_write(self) -> None:
        """Let the next write fail, and leave no trace of it."""
        self.faulty = True
        super().fail_next_write()

    def fail_next_sync(self) -> None:
        """Let the next sync fail; what was not durable before may be lost in a crash."""
        self.faulty = True
        super().fail_next_sync()

    def lose_power_at(self, operations: int, where: PowerLoss, then: Callable[[], None]) -> None:
        """Lose the power in the write or sync that follows `operations` more of them.

        The operation raises StorageError, its caller gets no further, and `then` is called.
        """
        self.faulty = True
        self._power = (operations, where)
        self._on_power_loss = then

    def _power_fails(self) -> tuple[bool, bool]:
        """Whether the power fails before and after this operation."""
        if self._power is None:
            return False, False
        left, where = self._power
        if left > 0:
            self._power = (left - 1, where)
            return False, False
        self._power = None
        return where is PowerLoss.BEFORE, where is PowerLoss.AFTER

    def _lose_power(self, operation: str) -> None:
        self._trace.add(self.name, f"power lost at this {operation}")
        assert self._on_power_loss is not None
        self._on_power_loss()
        self.cut_power()
        raise StorageError(_NO_POWER)

    def cut_power(self) -> None:
        """Take no write and no sync any more."""
        self.faulty = True
        self._poison = self._poison or _NO_POWER

    def heal(self) -> None:
        """Forget faults that have not happened; what is poisoned stays so until it is reopened."""
        self._power = None
        self._fail_next_write = self._fail_next_sync = False
        self.faulty = self._poison is not None

    def after_power_loss(self) -> "SimulationDisk":
        """The disk as the machine finds it after a loss of power: a suffix of writes is gone."""
        unsynced = self.unsynced_writes
        survivor = super().crash(self._chance)
        self._trace.add(self.name, f"comes back; {unsynced} writes were at risk")
        return self._successor(survivor)

    def after_restart(self) -> "SimulationDisk":
        """The disk as a new process finds it on a machine that went on: no write is gone."""
        return self._successor(super().reopen())

    def replaced(self) -> "SimulationDisk":
        """An empty disk in the place of this one, which is lost."""
        self._trace.add(self.name, "is lost for good; there is a new disk")
        return self._successor(MemoryStore())

    def _successor(self, store: MemoryStore) -> "SimulationDisk":
        successor = SimulationDisk(
            self.name,
            trace=self._trace,
            chance=self._chance,
            sync_delay_ns_max=self._delay_ns_max,
            content=store._data,
        )
        successor._undo = store._undo
        successor.on_write, successor.on_delete = self.on_write, self.on_delete
        return successor

    def rot(self, prefix: bytes) -> bytes | None:
        """Flip one bit of one value under `prefix`, both drawn; its key, None if there is none.

        The damage is on the disk: no crash or restart takes it back.
        """
        keys = [key for key in self._keys if key.startswith(prefix) and self._data[key]]
        if not keys:
            return None
        key = self._chance.pick(keys)
        value = bytearray(self._data[key])
        bit = self._chance.between(0, 8 * len(value) - 1)
        value[bit // 8] ^= 1 << bit % 8
        self._data[key] = bytes(value)
        self._trace.add(self.name, f"bit {bit} of the value at {key.hex()} has flipped")
        return key

    def lose(self, key: bytes) -> None:
        """Lose the value of a durable `key`; no crash or restart brings it back."""
        assert self.durable(key), key
        del self._data[key]
        self._keys.remove(key)
        self._trace.add(self.name, f"the value at {key.hex()} is lost")

    def durable(self, key: bytes) -> bool:
        """Whether `key` is there, and what it holds stays when the power goes now."""
        return key in self._data and not any(
            changed == key for former in self._undo for changed, _ in former
        )

    def durable_in_some_form(self, key: bytes) -> bool:
        """Whether `key` is there when the power goes now, with its last value or an older one."""
        for former in self._undo:
            for changed, before in former:
                if changed == key:
                    return before is not None
        return key in self._data

    def durable_rows(self) -> dict[bytes, bytes]:
        """What is left if the power goes now and every unsynced write is lost."""
        rows = dict(self._data)
        for former in reversed(self._undo):
            for key, value in reversed(former):
                if value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = value
        return rows

    def rows(self) -> dict[bytes, bytes]:
        """Everything in it, durable or not; also when it is closed or poisoned."""
        return dict(self._data)


def all_rows(disks: Iterable[SimulationDisk]) -> list[bytes]:
    """The keys and values that disks have, one disk after the other, by key."""
    return [part for disk in disks for row in sorted(disk.rows().items()) for part in row]


_NO_POWER = "the power is out"


class SimulationSyncRunner:
    """Runs the syncs of a log's writer beside the loop: later, by the disk's drawn delay."""

    def __init__(self, loop: SimulationLoop, disk: SimulationDisk) -> None:
        """Take as long as `disk` says."""
        self._loop = loop
        self._disk = disk
        self._closed = False

    def run(self, sync: Callable[[], int], done: Callable[[int | StorageError], None]) -> None:
        """Call `sync` after the delay, and `done` with what it gave or raised."""
        due_ns = self._loop.now_ns + self._disk.sync_delay_ns()
        self._loop.call_at_ns(due_ns, self._finish, sync, done)

    def _finish(self, sync: Callable[[], int], done: Callable[[int | StorageError], None]) -> None:
        if self._closed:
            return
        try:
            result: int | StorageError = sync()
        except StorageError as error:
            result = error
        done(result)

    def close(self) -> None:
        """Finish nothing any more."""
        self._closed = True
