"""What is kept of a record that could not be applied, for whoever looks into it."""

import base64
import traceback
from pathlib import Path

import msgspec

from ..core.clock import Clock
from ..partition_processor.machine import RecordFailedError
from ..partition_processor.processor import PartitionProcessor
from ..partition_processor.records import COMMAND_TYPES, KIND_NAMES


def write_bundle(
    directory: Path, processor: PartitionProcessor, error: RecordFailedError, clock: Clock
) -> Path:
    """Write record, progress and traceback as one JSON file and give its path.

    Raises OSError when the file cannot be written.
    """
    record = error.record
    command_type = COMMAND_TYPES.get(record.kind)
    command: object = None
    if command_type is not None:
        try:
            command = msgspec.msgpack.decode(record.body, type=command_type)
        except msgspec.MsgspecError as decode_error:
            command = f"does not decode: {decode_error}"
    bundle = {
        "partition": processor.partition,
        "lsn": error.lsn,
        "kind": KIND_NAMES.get(record.kind, str(record.kind)),
        "command": repr(command),
        "record": base64.b64encode(msgspec.msgpack.encode(record)).decode(),
        "status": msgspec.to_builtins(processor.status()),
        "written_ns": clock.time_ns(),
        "traceback": traceback.format_exception(error.__cause__ or error),
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"partition-{processor.partition}-lsn-{error.lsn}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(bundle)))
    return path
