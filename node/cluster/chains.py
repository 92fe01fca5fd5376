"""The chains of all logs, read from the metadata: what may be done with nodes hangs on them."""

from typing import Final

from ...core.ids import LogId
from ...log.chain import Chain, decode_chain
from ...log.local.provider import KIND as LOCAL
from ...metadata.api import MetadataStore
from .errors import LogsOnOneDiskError

_PREFIX: Final = "log/"
_SUFFIX: Final = "/chain"
_SHOWN_MAX: Final = 8


async def read_chains(metadata: MetadataStore) -> dict[LogId, Chain]:
    """The chains of all logs. Cancelling is safe.

    Raises CorruptChainError, StorageFormatError and what the metadata store raises.
    """
    found: dict[LogId, Chain] = {}
    for key in await metadata.keys(_PREFIX):
        number = key.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        value = await metadata.get(key) if number.isdigit() else None
        if value is not None:
            log = LogId(int(number))
            found[log] = decode_chain(log, value.value)
    return found


async def check_readable(metadata: MetadataStore) -> None:
    """Refuse another node while a log is on one node's own disk, where no other node can read it.

    Raises LogsOnOneDiskError, and what `read_chains` raises. Cancelling is safe.
    """
    local = [
        (log, segment.params.sequencer)
        for log, chain in sorted((await read_chains(metadata)).items())
        for segment in chain.segments
        if segment.kind == LOCAL
    ]
    if local:
        logs = list(dict.fromkeys(str(log) for log, _ in local))
        more = f" and {len(logs) - _SHOWN_MAX} more" if len(logs) > _SHOWN_MAX else ""
        log, node = local[0]
        raise LogsOnOneDiskError(
            "node.name",
            f"segments of logs {', '.join(logs[:_SHOWN_MAX])}{more} are on the disk of {node} "
            "alone, which another node could not read. For each of them, ask that node: perdure "
            f"logs reconfigure {log} --provider replicated; perdure snapshots create --partition "
            f"{log}; perdure logs trim {log} LSN, up to where the snapshot reaches",
        )
