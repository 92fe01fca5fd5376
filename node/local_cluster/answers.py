"""What the admin door of one node answers, as far as a local cluster looks at it."""

import http.client
from typing import Final, TypeAlias

import msgspec

from ...core.addresses import parse_address

ASK_SECONDS: Final = 2.0
ANSWER_BYTES_MAX: Final = 8 << 20
_RECORDS: Final = b"perdure_log_append_records_total "
_UNAVAILABLE: Final = 503


class MemberAnswer(msgspec.Struct, frozen=True):
    """A node of the cluster, as another one sees it."""

    name: str
    state: str
    leaving: bool = False


class PartitionAnswer(msgspec.Struct, frozen=True):
    """A partition; role, position and lag are those of the node that answers."""

    partition: int
    leader: str | None = None
    replicas: tuple[str, ...] = ()
    role: str = "absent"
    epoch: int = 0
    applied_lsn: int = 0
    lag: int = 0


class ClusterAnswer(msgspec.Struct, frozen=True):
    """The cluster as one node sees it."""

    cluster: str
    me: str
    nodes: tuple[MemberAnswer, ...] = ()
    partitions: tuple[PartitionAnswer, ...] = ()
    warnings: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """One look at a node.

    Attributes:
        pid: of the process that was looked at.
        at_ns: when it answered, by a clock that only goes forward.
        cluster: None while it has not joined.
        records: committed by the node since it started; None where it does not tell.
    """

    pid: int
    at_ns: int
    cluster: ClusterAnswer | None
    records: float | None


Seen: TypeAlias = tuple[ClusterAnswer | None, float | None]


def ask_node(address: str) -> Seen | None:
    """Look at the node of an admin address; None when nothing that is understood comes back."""
    host, port = parse_address(address)
    connection = http.client.HTTPConnection(host, port, timeout=ASK_SECONDS)
    try:
        status, body = _get(connection, "/cluster")
        if status == _UNAVAILABLE:
            return None, None
        if status != http.client.OK:
            return None
        cluster = msgspec.json.decode(body, type=ClusterAnswer)
        status, body = _get(connection, "/metrics")
    except (OSError, http.client.HTTPException, msgspec.MsgspecError):
        return None
    finally:
        connection.close()
    return cluster, committed_records(body) if status == http.client.OK else None


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read(ANSWER_BYTES_MAX)


def committed_records(metrics: bytes) -> float | None:
    """The count of committed records in what `/metrics` answers; None when it is not there."""
    for line in metrics.splitlines():
        if line.startswith(_RECORDS):
            try:
                return float(line[len(_RECORDS) :].split()[0])
            except (ValueError, IndexError):
                return None
    return None
