"""The worker session's own messages: greeting, services offered, opening and ending attempts.

The worker dials out to every node, says `Hello` on stream 0 and gets `Welcome` or `Refused`; then
the node opens one stream per attempt: ``OPEN | START | INPUT | …`` in one segment, followed by
segments of notifications; the worker answers with segments of commands that end in END,
SUSPENSION or ERROR. ABORT, with no body, ends a stream without an answer: the node asks for it, the
worker confirms it or gives an attempt back by it. Until it is confirmed the node goes on taking
what the worker writes to the log, which refuses what is not current any more; SUPERSEDED, with no
body, tells the worker so and ends the stream too. SUSPEND, with no body, asks an attempt to suspend
as soon as its handler is blocked and runs no step of its own; notifications still arrive meanwhile.
NODES on stream 0, after the greeting and again when it changes, tells a worker of the other nodes.
The bodies here are MessagePack (JSON-like objects), because they are ours alone and not hot.
"""

from enum import StrEnum
from typing import Final

import msgspec

SESSION_SERVICE: Final = "worker-session"
"""The name that the transport knows the session by."""

LOOP_SEMANTICS: Final = 1
"""The durable loop's semantics number: raised when replay of the same journal would differ."""


class ServiceKind(StrEnum):
    """What kind of service: how its handlers are keyed."""

    SERVICE = "SERVICE"
    VIRTUAL_OBJECT = "VIRTUAL_OBJECT"
    WORKFLOW = "WORKFLOW"


class HandlerKind(StrEnum):
    """How invocations of a handler exclude one another; None for plain services."""

    EXCLUSIVE = "EXCLUSIVE"
    SHARED = "SHARED"
    WORKFLOW = "WORKFLOW"


class HandlingOptions(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """How invocations are handled, of a service or of one handler; None leaves it open.

    A handler's own value stands before its service's, and that before the node's option. Times are
    whole milliseconds, and names and meanings those of the public discovery manifest.

    Attributes:
        inactivity_timeout: quiet for so long, an attempt is asked to suspend.
        abort_timeout: after that, the attempt is given up.
        retry_policy_on_max_attempts: ``PAUSE`` or ``KILL``.
        enable_lazy_state: state is read when asked for, not sent along with each attempt.
        ingress_private: only other handlers may call it.
        workflow_completion_retention: of a workflow's run; the others' is `idempotency_retention`.
    """

    inactivity_timeout: int | None = None
    abort_timeout: int | None = None
    journal_retention: int | None = None
    idempotency_retention: int | None = None
    workflow_completion_retention: int | None = None
    enable_lazy_state: bool | None = None
    ingress_private: bool | None = None
    retry_policy_initial_interval: int | None = None
    retry_policy_max_interval: int | None = None
    retry_policy_max_attempts: int | None = None
    retry_policy_exponentiation_factor: float | None = None
    retry_policy_on_max_attempts: str | None = None


NO_OPTIONS: Final = HandlingOptions()


class HandlerManifest(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One handler as it is announced; the names follow the public discovery manifest.

    Attributes:
        input_required: whether an empty body is refused at the front doors.
    """

    name: str
    ty: HandlerKind | None = None
    input_content_type: str | None = "application/json"
    output_content_type: str | None = "application/json"
    input_required: bool = False
    options: HandlingOptions = NO_OPTIONS
    documentation: str | None = None
    metadata: dict[str, str] | None = None


class ServiceManifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """One service as it is announced."""

    name: str
    ty: ServiceKind
    handlers: tuple[HandlerManifest, ...]
    options: HandlingOptions = NO_OPTIONS
    documentation: str | None = None
    metadata: dict[str, str] | None = None


class Hello(msgspec.Struct, frozen=True, omit_defaults=True):
    """Worker to node, first: who I am and what I run.

    Attributes:
        deployment: identity of the code, by default derived from `code_hash`; immutable.
        code_hash: hex digest of the app's source, Python's minor version and loop semantics.
        worker: a name for logs, such as ``host:pid``.
        attempts_max: how many attempts this worker runs at once.
        protocol_version: of the frames; see `messages.PROTOCOL_VERSION`.
        cluster: fingerprint of the only cluster that this is for, where the worker was told of the
            node by another one; empty where it was given the address.
    """

    deployment: str
    code_hash: str
    worker: str
    attempts_max: int
    protocol_version: int
    services: tuple[ServiceManifest, ...]
    cluster: str = ""


class Welcome(msgspec.Struct, frozen=True):
    """Node to worker: you are in. Carries the node's time, until an `Open` tells a better one."""

    node: str
    cluster: str
    time_ns: int


class NodeAddress(msgspec.Struct, frozen=True):
    """A node of the cluster, and where it takes workers."""

    node: str
    address: str


class Nodes(msgspec.Struct, frozen=True):
    """Node to worker: these take workers now. Of several the one with the highest version holds.

    Attributes:
        cluster: its fingerprint.
    """

    version: int
    nodes: tuple[NodeAddress, ...]
    cluster: str = ""


class Refused(msgspec.Struct, frozen=True):
    """Node to worker: you are not; `code` is a PerdureError code, the connection closes."""

    code: str
    message: str
    retryable: bool


class Open(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Node to worker, first frame of a stream: which handler, which attempt of what.

    A worker that is given a higher (epoch, attempt) of an invocation ends the older one it runs.

    Attributes:
        time_ns: the time by which the partition counts sleeps, for their wake times; 0 where the
            node does not tell.
    """

    service: str
    handler: str
    epoch: int
    attempt: int
    time_ns: int = 0
