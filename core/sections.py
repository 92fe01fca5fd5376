"""The option sections: what can be set, its default, its bounds and what it means."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from .quantities import ByteSize, Duration, parse_duration

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20


class NodeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who this node is and where it keeps its data."""

    name: Annotated[
        str, Meta(min_length=1, description="The node's name; unique within its cluster.")
    ] = "node-1"
    base_dir: Annotated[
        str,
        Meta(min_length=1, description="The directory that holds everything the node stores."),
    ] = "perdure-data"
    cluster: Annotated[
        str, Meta(min_length=1, description="The cluster's name; a node of another is refused.")
    ] = "perdure"


class ListenSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The addresses the node listens on, as host:port; port 0 takes any free one."""

    ingress_http: Annotated[str, Meta(description="HTTP front door for clients.")] = (
        "127.0.0.1:8080"
    )
    ingress_grpc: Annotated[str, Meta(description="gRPC front door for clients.")] = (
        "127.0.0.1:8081"
    )
    admin: Annotated[str, Meta(description="Admin REST and `/metrics`.")] = "127.0.0.1:9070"
    node: Annotated[str, Meta(description="Workers and other nodes.")] = "127.0.0.1:5122"
    advertise: Annotated[
        str,
        Meta(
            description="The host, without a port, that others are told to reach this node at; for "
            "listeners at `0.0.0.0`, as in containers. Empty: the host that each listens on or, "
            "where that is a wildcard, the one of `listen.node`."
        ),
    ] = ""
    node_transport: Annotated[
        Literal["tcp", "grpc"],
        Meta(
            description="What `listen.node` speaks; workers say the same with `--transport`. "
            "`grpc` costs more and passes where only HTTP/2 does."
        ),
    ] = "tcp"
    insecure: Annotated[
        bool,
        Meta(
            description="Allow addresses that other machines reach, although nothing is encrypted."
        ),
    ] = False


class ClusterSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How this node belongs to a cluster of several; without metadata servers it is alone."""

    metadata_servers: Annotated[
        str,
        Meta(
            description="The node addresses (`listen.node`) of the 1, 3 or 5 nodes that keep the "
            "cluster's metadata, separated by commas, the same on every node. Empty: this node is "
            "alone. In a cluster all ports must be fixed ones.",
        ),
    ] = ""
    provision: Annotated[
        bool,
        Meta(
            description="Set the cluster up, once all its metadata servers answer, unless it is. "
            "To be said to one node.",
        ),
    ] = False
    replicas: Annotated[
        int,
        Meta(ge=1, le=9, description="Nodes that have each partition; fixed when provisioned."),
    ] = 2
    log_copies: Annotated[
        int,
        Meta(ge=1, le=9, description="Log-servers that have each record before it counts."),
    ] = 2
    log_zones: Annotated[
        int,
        Meta(
            ge=1,
            le=9,
            description="In how many zones these log-servers are, see `cluster.zone`: with 2, no "
            "record counts that one zone alone has.",
        ),
    ] = 1
    log_repair_after: Annotated[
        Duration,
        Meta(
            description="How long a log-server is dead, drained or read-only, or its disk "
            "another one, before the logs that it keeps go on on other log-servers, where there "
            "are enough.",
            extra={"min": parse_duration("100ms")},
        ),
    ] = parse_duration("5s")
    roles: Annotated[
        str,
        Meta(
            description="What the node does, separated by commas: admin, ingress, log-server, "
            "metadata-server, worker.",
        ),
    ] = "admin,ingress,log-server,metadata-server,worker"
    zone: Annotated[
        str, Meta(description="What fails together with this node, such as a rack.")
    ] = ""
    accept_storage_loss: Annotated[
        bool,
        Meta(
            description="What the node of this name held is lost for good: join as a new node "
            "under its name.",
        ),
    ] = False


class PartitionsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the key space is cut."""

    count: Annotated[
        int,
        Meta(ge=1, le=1024, description="Number of partitions; fixed when a cluster is set up."),
    ] = 8


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The log: where it is kept, when it is synced and trimmed."""

    provider: Annotated[
        Literal["local", "memory"],
        Meta(
            description="What keeps the first segment of a new log: `local` is this node's disk, "
            "`memory` forgets everything when the node ends. `perdure logs reconfigure` moves a "
            "log that exists."
        ),
    ] = "local"
    sync_inline: Annotated[
        Literal["auto", "always", "never"],
        Meta(
            description="Whether a sync runs on the event loop: `auto` does so while syncs measure "
            "below a millisecond on average."
        ),
    ] = "auto"
    trim_interval: Annotated[
        Duration,
        Meta(
            description="How often the partition store is synced and the logs are trimmed behind "
            "it.",
            extra={"min": parse_duration("10ms")},
        ),
    ] = parse_duration("10s")
    keep_records: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000_000,
            description="Records of each partition's log that stay for `perdure logs read` when it "
            "is trimmed, as far as its last 256 segments hold them.",
        ),
    ] = 10_000


class SnapshotsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Copies of each partition's state, outside of the node's own directory."""

    directory: Annotated[
        str,
        Meta(
            description="Where snapshots are kept, such as a mounted file system that all nodes "
            "share; empty to take none. Logs are then trimmed only as far as a snapshot reaches.",
        ),
    ] = ""
    interval_records: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000_000,
            description="A partition's snapshot is taken after so many records; 0 for time alone.",
        ),
    ] = 100_000
    interval: Annotated[
        Duration,
        Meta(
            description="And after so long, if anything was applied since; 0s for records alone.",
            extra={"max": parse_duration("366d")},
        ),
    ] = parse_duration("30m")
    kept: Annotated[
        int,
        Meta(ge=1, le=1000, description="How many snapshots of each partition stay."),
    ] = 2


class LimitsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one client or one partition may take."""

    body_bytes_max: Annotated[
        ByteSize,
        Meta(
            description="The largest request or response body.",
            extra={"min": 1 * _KIB, "max": 32 * _MIB},
        ),
    ] = ByteSize(32 * _MIB)
    in_flight_max_per_partition: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Requests a partition takes before it answers 429."),
    ] = 2000
    active_max_per_partition: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000_000,
            description="Invocations of a partition that have not completed, before it answers "
            "429; each takes some memory.",
        ),
    ] = 250_000
    stop_grace: Annotated[
        Duration,
        Meta(
            description="How long a stopping node waits for requests that are under way.",
            extra={"max": parse_duration("10m")},
        ),
    ] = parse_duration("5s")


class ForwardingSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How requests reach partitions that other nodes lead."""

    leader_wait: Annotated[
        Duration,
        Meta(
            description="How long a request waits while nobody is known to lead its partition, "
            "before it is refused with 503. One that a leader may have taken before it was lost "
            "waits for up to 5 minutes.",
            extra={"max": parse_duration("4m")},
        ),
    ] = parse_duration("15s")
    waiting_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Requests of this node that wait for leaders, before it answers 429.",
        ),
    ] = 10_000
    in_flight_max_per_peer: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Requests that one node may have unanswered at another, before 429.",
        ),
    ] = 20_000


class RetrySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a failed attempt is retried when its service says nothing else."""

    initial_interval: Annotated[
        Duration,
        Meta(
            description="The wait before the second attempt.",
            extra={"min": parse_duration("1ms")},
        ),
    ] = parse_duration("500ms")
    factor: Annotated[
        float, Meta(ge=1.0, le=100.0, description="What each wait is multiplied by.")
    ] = 2.0
    max_interval: Annotated[
        Duration,
        Meta(description="No wait is longer.", extra={"min": parse_duration("1ms")}),
    ] = parse_duration("60s")
    max_attempts: Annotated[
        int,
        Meta(ge=1, le=1_000_000, description="Attempts before `on_max_attempts` takes effect."),
    ] = 70
    on_max_attempts: Annotated[
        Literal["pause", "kill"],
        Meta(
            description="After the last attempt: `pause` has the invocation wait until somebody "
            "resumes it, `kill` ends it with the last error."
        ),
    ] = "pause"
    inactivity_timeout: Annotated[
        Duration,
        Meta(
            description="An attempt that has been quiet for so long is asked to suspend; it then "
            "needs no place on a worker until something comes for it. 0 asks at once."
        ),
    ] = parse_duration("60s")
    abort_timeout: Annotated[
        Duration,
        Meta(
            description="An attempt that was asked to suspend and sends nothing for so long is "
            "given up and the invocation tried again; together with `inactivity_timeout`, a step "
            "may take no longer.",
            extra={"min": parse_duration("100ms")},
        ),
    ] = parse_duration("10m")
    jitter: Annotated[
        float, Meta(ge=0.0, le=1.0, description="The share of a wait that chance may add.")
    ] = 0.3


class RetentionSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long completed invocations are remembered when their service says nothing else."""

    plain: Annotated[
        Duration,
        Meta(
            description="Results and journals of calls without an idempotency key. Those that came "
            "through a front door are kept for ten minutes at least.",
            extra={"max": parse_duration("366d")},
        ),
    ] = parse_duration("1h")
    idempotency: Annotated[
        Duration,
        Meta(
            description="Results of calls with an idempotency key: until then a repeated call gets "
            "the stored result.",
            extra={"max": parse_duration("366d")},
        ),
    ] = parse_duration("24h")
    workflow: Annotated[
        Duration,
        Meta(
            description="Results, state and promises of workflows: until then the key does not run "
            "again.",
            extra={"max": parse_duration("366d")},
        ),
    ] = parse_duration("24h")
    journal: Annotated[
        Duration,
        Meta(
            description="Journals of calls with an idempotency key and of workflows.",
            extra={"max": parse_duration("366d")},
        ),
    ] = parse_duration("24h")


class LoggingSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the node writes to stderr."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least severe level that is written."),
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json"],
        Meta(description="`auto` is text on a terminal and JSON lines elsewhere."),
    ] = "auto"
