"""Everything that can be set about a node: the sections, and the rules that span them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from ..core.addresses import (
    format_address,
    is_ip_address,
    is_loopback,
    is_wildcard,
    parse_address,
)
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


Door: TypeAlias = Literal["node", "ingress_http", "ingress_grpc", "admin"]
"""What a node listens for."""

NAME_CHARACTERS_MAX: Final = 100
"""Names travel in hellos and heartbeats, and stand in tables."""

_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")
_NAME: Final = re.compile(rf"(?=.{{1,{NAME_CHARACTERS_MAX}}}\Z)[A-Za-z0-9_][A-Za-z0-9._-]*")


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
    _check_names(options, origins)
    _check_listen(options.listen, origins)
    check_cluster(options, origins)
    _check_retry(options.retry, origins)
    return options


def _check_names(options: NodeOptions, origins: Origins) -> None:
    """Refuse names that are no part of a path, no argument, or no item of a list with commas."""
    zone = options.cluster.zone
    names = {"node.name": options.node.name, "node.cluster": options.node.cluster}
    for key, name in {**names, **({"cluster.zone": zone} if zone else {})}.items():
        if not _NAME.fullmatch(name):
            shown = name[:NAME_CHARACTERS_MAX].encode("unicode_escape").decode()
            raise OptionsError(
                f'{key} = "{shown}" ({origins.of(key)}) is no name: give up to '
                f'{NAME_CHARACTERS_MAX} of a-z, A-Z, 0-9, ".", "_" and "-", the first of them '
                'neither "." nor "-"'
            )


def _check_listen(listen: ListenSection, origins: Origins) -> None:
    _check_advertised(listen, origins)
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


def _check_advertised(listen: ListenSection, origins: Origins) -> None:
    host = listen.advertise
    if not host:
        return
    if is_wildcard(host) or not (_HOST.fullmatch(host) or is_ip_address(host)):
        key = "listen.advertise"
        raise OptionsError(
            f'{key} = "{host}" ({origins.of(key)}) is no host that others could use: give a name '
            "or an address of this machine, without a port"
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
    copies, zones = options.cluster.log_copies, options.cluster.log_zones
    if zones > copies:
        key = "cluster.log_zones"
        raise OptionsError(
            f"{key} = {zones} ({origins.of(key)}): {copies} copies (cluster.log_copies) cannot be "
            "in more zones than there are copies"
        )
    host, port = parse_address(options.listen.node)
    if servers and is_wildcard(host) and not options.listen.advertise:
        key = "listen.node"
        raise OptionsError(
            f'{key} = "{options.listen.node}" ({origins.of(key)}) is no address that other nodes '
            "could use: say which host they find this one at with listen.advertise"
        )
    if servers and not port:
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


def advertised(listen: ListenSection, door: Door) -> str:
    """What others are told to reach a door at, as host:port.

    The host is `listen.advertise`; without that the one that the door listens on or, where that is
    a wildcard, the one of `listen.node`.
    """
    host, port = parse_address(getattr(listen, door))
    if listen.advertise:
        host = listen.advertise
    elif is_wildcard(host):
        host, _ = parse_address(listen.node)
    return format_address(host, port)


def _check_retry(retry: RetrySection, origins: Origins) -> None:
    if retry.initial_interval > retry.max_interval:
        key = "retry.initial_interval"
        raise OptionsError(
            f"{key} = {retry.initial_interval} ({origins.of(key)}) is longer than "
            f"retry.max_interval = {retry.max_interval} ({origins.of('retry.max_interval')})"
        )
