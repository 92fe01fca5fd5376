"""How a world looks into what a node has stored: the records of its log, from the bare rows.

Nothing here goes through the node: what it says of itself is compared with this.
"""

import struct
from dataclasses import dataclass
from typing import Final

import msgspec

from ...core.ids import InvocationId, LogId
from ...core.storage.kv import PutOrDelete
from ...log.batch_codec import decode_batch
from ...log.chain import chain_key, decode_chain
from ...log.types import Record
from ...partition_processor.records import COMMAND_TYPES, Command
from ...partition_processor.tables import keys
from ...partition_processor.tables.progress import decode_progress
from .disk import SimulationDisk
from .violation import require

BATCH_ROWS: Final = b"d"
"""What the keys of batches begin with in the log's store."""

PROGRESS_ROW: Final = keys.PROGRESS + bytes(8)
"""The progress of the one partition."""

LOG: Final = LogId(0)
"""The log of the one partition."""

_METADATA_HEADER: Final = struct.Struct(">BBQ")
_BATCH_KEY: Final = struct.Struct(">QQ")

_decoders: Final = {
    kind: msgspec.msgpack.Decoder(command_type).decode
    for kind, command_type in COMMAND_TYPES.items()
}


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record, where it is, when it was dated and under which leader."""

    lsn: int
    time_ns: int
    epoch: int
    record: Record

    def command(self) -> Command:
        """The body, decoded."""
        command: Command = _decoders[self.record.kind](self.record.body)
        return command

    def invocation_id(self) -> InvocationId | None:
        """Which invocation it is about, None for none."""
        return getattr(self.command(), "invocation_id", None)


class LogObserver:
    """Follows one log of a world from outside: its segments, and what was trimmed of it.

    Attributes:
        log: its number.
        rows_prefix: what the keys of its batches begin with in the log's store.
    """

    def __init__(self, log: LogId = LOG) -> None:
        """Start before the first write."""
        self.log = log
        self.rows_prefix = BATCH_ROWS + (log + 1).to_bytes(4, "big")
        self._chain_row = b"metadata/" + chain_key(log).encode()
        self._bases: dict[int, int] = {}
        self._trimmed: dict[int, LogRecord] = {}
        # By LSN what was last written there, and under which key; see `durable_record`.
        self._written: dict[int, tuple[bytes, LogRecord]] = {}

    def metadata_written(self, operations: list[PutOrDelete]) -> None:
        """Learn from a write to the metadata where segments begin."""
        for key, value in operations:
            if key == self._chain_row and value is not None:
                for segment in decode_chain(self.log, value[_METADATA_HEADER.size :]).segments:
                    self._bases[segment.params.loglet] = segment.base_lsn

    def log_written(self, operations: list[PutOrDelete]) -> None:
        """Take note of the records that a write to the log's store is about to bring."""
        for key, value in operations:
            if value is not None and key.startswith(self.rows_prefix):
                for lsn, item in self._records({key: value}).items():
                    self._written[lsn] = key, item

    def durable_record(self, lsn: int, disk: SimulationDisk) -> LogRecord | None:
        """The record at `lsn`, None unless it is there even if the power goes now."""
        found = self._trimmed.get(lsn)
        if found is not None or lsn not in self._written:
            return found
        key, item = self._written[lsn]
        return item if disk.durable(key) else None

    def log_deleted(self, rows: dict[bytes, bytes], durable_lsn: int) -> None:
        """Keep what is being trimmed. Raises InvariantViolation when it is needed still.

        Args:
            rows: what is deleted.
            durable_lsn: the last LSN that nobody needs any more, even if the power goes now.
        """
        records = self._records(rows)
        for lsn in records:
            require(
                lsn <= durable_lsn,
                "trim stays behind what is durably applied",
                f"LSN {lsn} of log {self.log} is trimmed, LSN {durable_lsn} is durably applied",
            )
        self._trimmed.update(records)

    def batch_lost(self, rows: dict[bytes, bytes]) -> None:
        """Keep what a disk has lost: the log had it."""
        self._trimmed.update(self._records(rows))

    def lsns(self, rows: dict[bytes, bytes]) -> list[int]:
        """Of the records in some rows, sorted."""
        return sorted(self._records(rows))

    def read(self, rows: dict[bytes, bytes]) -> list[LogRecord]:
        """Every record that the log ever committed, or may have: what was trimmed, what is there.

        Raises InvariantViolation where it has a gap, an overlap, or runs backwards in time.
        """
        found = self._records(rows)
        for lsn, item in self._trimmed.items():
            require(found.setdefault(lsn, item) == item, "a record never changes", f"LSN {lsn} did")
        records = [found[lsn] for lsn in sorted(found)]
        time_ns = 0
        for number, item in enumerate(records, 1):
            require(item.lsn == number, "LSNs have no gap", f"LSN {item.lsn} follows {number - 1}")
            require(
                item.time_ns >= time_ns,
                "record time never goes back",
                f"{item.time_ns} after {time_ns} at LSN {item.lsn}",
            )
            time_ns = item.time_ns
        return records

    def _records(self, rows: dict[bytes, bytes]) -> dict[int, LogRecord]:
        records: dict[int, LogRecord] = {}
        for key, value in rows.items():
            if not key.startswith(self.rows_prefix):
                continue
            loglet, _ = _BATCH_KEY.unpack(key[1:])
            require(
                loglet in self._bases, "records are in segments of the chain", f"loglet {loglet}"
            )
            batch = decode_batch(key[1:], value)
            lsn = self._bases[loglet] + batch.first_offset - 1
            for record in batch.records:
                require(lsn not in records, "no LSN is given twice", f"LSN {lsn} is")
                records[lsn] = LogRecord(lsn, batch.record_time_ns, batch.epoch, record)
                lsn += 1
        return records


def durably_applied_lsn(store: SimulationDisk) -> int:
    """How far the partition store has come, as it would be found if the power went now."""
    value = store.durable_rows().get(PROGRESS_ROW)
    return 0 if value is None else decode_progress(value).applied_lsn
