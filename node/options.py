"""Everything that can be set about a node: the sections, and the rules that span them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ..core.addresses import is_loopback, parse_address
from ..core.errors import OptionsError
from ..core.options import Assignment, Origins, load_options
from ..core.sections import (
    ClusterSection,
    ForwardingSection,
    LimitsSection,
    ListenSection,
    LoggingSection,
    LogSection,
    NodeSection,
    PartitionsSection,
    RetentionSection,
    RetrySection,
    SnapshotsSection,
)

ROLES: Final = ("admin", "ingress", "log-server", "metadata-server", "worker")
METADATA_SERVER_COUNTS: Final = (1, 3, 5)


class NodeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options of one node, read once at start; see ``docs/options.md``."""

    node: NodeSection = NodeSection()
    listen: ListenSection = ListenSection()
    cluster: ClusterSection = ClusterSection()
    partitions: PartitionsSection = PartitionsSection()
    log: LogSection = LogSection()
    snapshots: SnapshotsSection = SnapshotsSection()
    limits: LimitsSection = LimitsSection()
    forwarding: ForwardingSection = ForwardingSection()
    retry: RetrySection = RetrySection()
    retention: RetentionSection = RetentionSection()
    logging: LoggingSection = LoggingSection()


def load_node_options(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[Assignment] = (),
) -> NodeOptions:
    """Merge file, environment and command line. Raises OptionsError."""
    options, origins = load_options(
        NodeOptions, file=file, environment=environment, assignments=assignments
    )
    _check_listen(options.listen, origins)
    check_cluster(options, origins)
    _check_retry(options.retry, origins)
    return options


def _check_listen(listen: ListenSection, origins: Origins) -> None:
    taken: dict[tuple[str, int], str] = {}
    for name in ("ingress_http", "ingress_grpc", "admin", "node"):
        key = f"listen.{name}"
        text: str = getattr(listen, name)
        try:
            host, port = parse_address(text)
        except ValueError as error:
            raise OptionsError(f'{key} = "{text}" ({origins.of(key)}): {error}') from None
        if not listen.insecure and not is_loopback(host):
            raise OptionsError(
                f'{key} = "{text}" ({origins.of(key)}) lets other machines in, and nothing there '
                "is encrypted or asks who they are; listen on 127.0.0.1, or allow it with "
                "listen.insecure = true (--insecure)"
            )
        if port and (other := taken.setdefault((host, port), key)) != key:
            raise OptionsError(
                f'{key} = "{text}" ({origins.of(key)}) is the address of {other} as well; give '
                "each listener its own port"
            )


def check_cluster(options: NodeOptions, origins: Origins) -> None:
    """Refuse what cannot be a member of a cluster. Raises OptionsError."""
    servers = metadata_servers(options.cluster)
    key = "cluster.metadata_servers"
    text = f'{key} = "{options.cluster.metadata_servers}" ({origins.of(key)})'
    for address in servers:
        try:
            _, port = parse_address(address)
        except ValueError as error:
            raise OptionsError(f"{text}: {address}: {error}") from None
        if not port:
            raise OptionsError(f"{text}: {address}: give the port that the node listens on")
    if servers and len(servers) not in METADATA_SERVER_COUNTS:
        raise OptionsError(f"{text} names {len(servers)} servers: give 1, 3 or 5 different ones")
    unknown = [role for role in roles_of(options.cluster) if role not in ROLES]
    if unknown:
        key = "cluster.roles"
        raise OptionsError(
            f'{key} = "{options.cluster.roles}" ({origins.of(key)}): there is no role '
            f"{unknown[0]!r}; there are {', '.join(ROLES)}"
        )
    if servers and not parse_address(options.listen.node)[1]:
        key = "listen.node"
        raise OptionsError(
            f'{key} = "{options.listen.node}" ({origins.of(key)}): other nodes must find this one, '
            "so give it a fixed port"
        )


def metadata_servers(cluster: ClusterSection) -> tuple[str, ...]:
    """The addresses of the metadata servers, each once."""
    items = (item.strip() for item in cluster.metadata_servers.split(","))
    return tuple(dict.fromkeys(item for item in items if item))


def roles_of(cluster: ClusterSection) -> tuple[str, ...]:
    """The names of the roles, as given."""
    return tuple(item.strip() for item in cluster.roles.split(",") if item.strip())


def _check_retry(retry: RetrySection, origins: Origins) -> None:
    if retry.initial_interval > retry.max_interval:
        key = "retry.initial_interval"
        raise OptionsError(
            f"{key} = {retry.initial_interval} ({origins.of(key)}) is longer than "
            f"retry.max_interval = {retry.max_interval} ({origins.of('retry.max_interval')})"
        )
