"""What a log-server tells about itself."""

import msgspec


class LogServerFigures(msgspec.Struct, frozen=True):
    """What a log-server has done since it was opened, and has now; see `core.server_metrics`."""

    batches: int
    bytes: int
    refused: dict[str, int]
    loglets: dict[str, int]
    staged_bytes: int
    waits: int
