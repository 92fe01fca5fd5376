"""``perdure partitions``: what the partitions of a node are doing, over admin REST."""

from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from ...core.errors import TransportError
from .output import Format, Output, RemoteError, print_json, print_table

if TYPE_CHECKING:
    from ...partition_processor.status import PartitionStatus

LIST_HELP: Final = """List the partitions of a node.

  perdure partitions list

  perdure partitions list --admin http://127.0.0.1:9070 -o json
"""
INSPECT_HELP: Final = """Show one partition in full.

  perdure partitions inspect 3
"""
_TIMEOUT_SECONDS: Final = 10.0
_ADMIN_DEFAULT: Final = "http://127.0.0.1:9070"
_Shown = TypeVar("_Shown")

AdminOption = Annotated[str, typer.Option("--admin", metavar="URL", help="Admin REST of a node.")]


def list_partitions(admin: AdminOption = _ADMIN_DEFAULT, output: Output = Format.TABLE) -> None:
    """Run the command."""
    from ...partition_processor.status import PartitionStatus

    answer = _get(admin, "/partitions", dict[str, list[PartitionStatus]])
    if output is Format.JSON:
        print_json(answer)
        return
    print_table(
        ["PARTITION", "NODE", "ROLE", "EPOCH", "APPLIED", "TAIL", "LAG", "INVOCATIONS", "ERROR"],
        [
            [
                str(status.partition),
                status.node,
                status.role,
                str(status.leader_epoch),
                str(status.applied_lsn),
                str(status.tail_lsn),
                str(status.lag),
                _counts(status),
                status.error or "-",
            ]
            for status in answer["partitions"]
        ],
    )


def inspect_partition(
    partition: Annotated[int, typer.Argument(metavar="ID", min=0, help="The partition's number.")],
    admin: AdminOption = _ADMIN_DEFAULT,
    output: Output = Format.TABLE,
) -> None:
    """Run the command."""
    from ...partition_processor.status import PartitionDetail

    detail = _get(admin, f"/partitions/{partition}", PartitionDetail)
    if output is Format.JSON:
        print_json(detail)
        return
    status = detail.status
    rows = {
        "partition": str(status.partition),
        "node": status.node,
        "role": status.role,
        "leader epoch": str(status.leader_epoch),
        "applied lsn": str(status.applied_lsn),
        "tail lsn": str(status.tail_lsn),
        "lag": str(status.lag),
        "keys": f"{detail.key_first:016x}-{detail.key_last:016x}",
        "digest": detail.digest,
        "invocations": _counts(status),
        "running": str(detail.running),
        "waiting for a worker": str(detail.waiting_for_worker),
        "error": status.error or "-",
    }
    print_table(["FIELD", "VALUE"], [[name, value] for name, value in rows.items()])


def _counts(status: "PartitionStatus") -> str:
    counted = (f"{name}={count}" for name, count in sorted(status.invocations.items()) if count)
    return " ".join(counted) or "-"


def _get(admin: str, path: str, kind: type[_Shown]) -> _Shown:
    """Ask admin REST. Raises TransportError or RemoteError."""
    import http.client
    import urllib.error
    import urllib.request

    import msgspec

    url = admin.rstrip("/") + path
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{admin!r} is not a URL", param_hint="--admin")
    # A node on loopback is not behind the proxy that the environment may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TIMEOUT_SECONDS) as response:
            body = response.read()
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(url, error.code, error.read()) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise TransportError(f"no node answers at {admin} ({reason}); --admin names another") from (
            None
        )
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise TransportError(f"{url} answered what no node says: {error}") from None


def _refused(url: str, status: int, body: bytes) -> TransportError | RemoteError:
    import msgspec

    try:
        answer = msgspec.json.decode(body, type=dict[str, str])
        return RemoteError(answer["code"], answer["message"])
    except (msgspec.MsgspecError, KeyError):
        return TransportError(f"{url} answered HTTP {status}")
