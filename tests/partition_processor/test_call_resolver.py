"""The targets of calls: which id, which kind, how long kept, and what cannot be called."""

import pytest

from perdure.core.clock import ManualClock
from perdure.core.hashing import (
    idempotent_invocation_id,
    keyed_partition_key,
    workflow_invocation_id,
)
from perdure.core.ids import INVOCATION_ID_BYTES
from perdure.core.protocol.session import (
    HandlerKind,
    HandlerManifest,
    HandlingOptions,
    ServiceKind,
    ServiceManifest,
)
from perdure.core.random import SeededRandom
from perdure.partition_processor.call_resolver import (
    CALLED_KEY_BYTES_MAX,
    CallResolver,
    UnresolvedCall,
)
from perdure.partition_processor.deployments import Deployment, Schema, Targets
from perdure.partition_processor.minting import UNKEYED_RUN, Minter
from perdure.partition_processor.records import (
    KIND_OBJECT_EXCLUSIVE,
    KIND_OBJECT_SHARED,
    KIND_SERVICE,
    KIND_WORKFLOW_RUN,
    KIND_WORKFLOW_SHARED,
    CallTarget,
)

from ..covering import covers
from .calls import called, sent
from .frames import entry
from .support import END, OUTPUT_OK, frames, identity

CALLER = identity(1)
MS = 1_000_000


def manifest(
    name: str, ty: ServiceKind, *handlers: tuple[str, HandlerKind | None]
) -> ServiceManifest:
    """A service whose results of known calls are kept for 7 ms."""
    return ServiceManifest(
        name,
        ty,
        tuple(HandlerManifest(handler, kind) for handler, kind in handlers),
        HandlingOptions(
            idempotency_retention=7, journal_retention=5, workflow_completion_retention=9
        )
        if ty is not ServiceKind.WORKFLOW
        else HandlingOptions(workflow_completion_retention=9, journal_retention=5),
    )


SERVICES = (
    manifest("Greeter", ServiceKind.SERVICE, ("greet", None)),
    manifest(
        "Counter",
        ServiceKind.VIRTUAL_OBJECT,
        ("add", None),
        ("look", HandlerKind.SHARED),
    ),
    manifest(
        "Order",
        ServiceKind.WORKFLOW,
        ("run", HandlerKind.WORKFLOW),
        ("look", HandlerKind.SHARED),
    ),
)


def resolver() -> CallResolver:
    """A resolver that knows the services above."""
    targets = Targets(Schema((Deployment("dp-1", "hash", SERVICES, 0),)))
    return CallResolver(lambda: targets, Minter(ManualClock(), SeededRandom(1)))


def resolve(*items: tuple[int, bytes]) -> tuple[tuple[CallTarget, ...], UnresolvedCall | None, int]:
    """The targets, the problem and how far the frames can be appended."""
    resolution = resolver().resolve(frames(*items), CALLER)
    return resolution.calls, resolution.problem, resolution.end


@covers("CALL_COMMAND", "ONE_WAY_CALL_COMMAND")
@pytest.mark.parametrize(
    ("service", "handler", "key", "kind"),
    [
        ("Greeter", "greet", None, KIND_SERVICE),
        ("Counter", "add", "k", KIND_OBJECT_EXCLUSIVE),
        ("Counter", "look", "k", KIND_OBJECT_SHARED),
        ("Order", "run", "k", KIND_WORKFLOW_RUN),
        ("Order", "look", "k", KIND_WORKFLOW_SHARED),
    ],
)
def test_a_call_finds_the_kind_of_its_handler_and_how_long_it_is_kept(
    service: str, handler: str, key: str | None, kind: int
) -> None:
    item = called(2, key=key, service=service, handler=handler).item
    (target,), problem, _ = resolve(OUTPUT_OK, item, END)

    assert (target.target_kind, problem) == (kind, None)
    if kind == KIND_WORKFLOW_RUN:
        assert target.invocation_id == workflow_invocation_id("Order", "k")
        assert (target.completion_retention_ns, target.journal_retention_ns) == (9 * MS, 5 * MS)
    else:
        assert (target.completion_retention_ns, target.journal_retention_ns) == (5 * MS, 5 * MS)
    if key is not None:
        assert target.invocation_id[:8] == keyed_partition_key("k").to_bytes(8, "big")


@covers("CALL_COMMAND")
@pytest.mark.parametrize("key", [None, "k"])
def test_an_idempotency_key_gives_the_id_that_requests_with_it_get(key: str | None) -> None:
    item = called(2, key=key, idempotency_key="once").item
    (target,), _, _ = resolve(item)

    service, handler = ("Greeter", "greet") if key is None else ("Counter", "add")
    assert target.invocation_id == idempotent_invocation_id(service, key, handler, "once")
    assert (target.completion_retention_ns, target.journal_retention_ns) == (7 * MS, 5 * MS)


@covers("CALL_COMMAND", "ONE_WAY_CALL_COMMAND")
def test_what_is_waited_for_runs_beside_its_caller_and_what_is_not_is_spread() -> None:
    (waited,), _, _ = resolve(called(2).item)
    assert waited.invocation_id[:8] == CALLER[:8]
    assert len(waited.invocation_id) == INVOCATION_ID_BYTES

    many = [sent(2, id_index=number).item for number in range(1, 8 * UNKEYED_RUN)]
    targets, _, _ = resolve(*many)
    ids = {target.invocation_id for target in targets}
    places = {target.invocation_id[:8] for target in targets}
    assert len(ids) == len(many)
    assert CALLER[:8] not in places
    assert 1 < len(places) <= 8


UNKNOWN = [
    (called(2, service="Nobody"), 404, "no deployment offers that service"),
    (called(2, handler="nothing"), 404, "no deployment offers that handler"),
]
WRONG = [
    (called(2, key="k", service="Greeter", handler="greet"), "takes no key"),
    (called(2, service="Counter", handler="add"), "needs a key"),
    (called(2, service="Order", handler="run"), "needs a key"),
    (called(2, key="é" * (CALLED_KEY_BYTES_MAX // 2 + 1)), "longer than 2048 bytes"),
    (called(2, idempotency_key=""), "the idempotency key is empty"),
    (
        called(2, key="w", kind=KIND_WORKFLOW_RUN, idempotency_key="once"),
        "takes no idempotency key",
    ),
]


@covers("CALL_COMMAND", "ONE_WAY_CALL_COMMAND")
@pytest.mark.parametrize(
    ("item", "code", "words"),
    [(call.item, code, words) for call, code, words in UNKNOWN]
    + [(call.item, 400, words) for call, words in WRONG],
)
def test_a_call_that_cannot_be_made_says_why_and_ends_what_is_appended(
    item: tuple[int, bytes], code: int, words: str
) -> None:
    before = (OUTPUT_OK, called(2).item)
    targets, problem, end = resolve(*before, item, called(3).item, END)

    assert len(targets) == 1
    assert problem is not None
    assert problem.code == code
    assert words in problem.message
    assert end == len(frames(*before))


@covers("CALL_COMMAND")
def test_the_longest_key_is_taken() -> None:
    targets, problem, _ = resolve(called(2, key="x" * CALLED_KEY_BYTES_MAX).item)

    assert (len(targets), problem) == (1, None)


@pytest.mark.parametrize(
    "broken", [b"\x04\x0d\x00\x00\x00\x00\x00\xff", frames((0x040D, b"\xff\xff")), b"\x01"]
)
def test_frames_that_do_not_parse_are_left_to_apply(broken: bytes) -> None:
    good = frames(called(2).item)
    resolution = resolver().resolve(good + broken, CALLER)

    assert resolution.problem is None
    assert (len(resolution.calls), resolution.end) == (1, len(good + broken))


def test_frames_without_calls_have_no_targets() -> None:
    assert resolve(entry("SLEEP_COMMAND", result_completion_id=1), OUTPUT_OK, END)[0] == ()
