"""Options of services and handlers: what is announced, and what is refused."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Any

import pytest

from perdure.core.protocol.session import HandlerKind, HandlingOptions, ServiceKind
from perdure.sdk import Context, InvocationRetryPolicy, Service, VirtualObject, Workflow, app
from perdure.sdk.errors import HandlerSignatureError, InvalidOptionError
from perdure.sdk.handlers import handler_of

from .fake_node import Journal, to_the_end

SECOND = timedelta(seconds=1)
POLICY = InvocationRetryPolicy(
    initial_interval=SECOND / 4,
    exponentiation_factor=3,
    max_interval=SECOND * 60,
    max_attempts=5,
    on_max_attempts="kill",
)
COMMON: dict[str, Any] = {
    "inactivity_timeout": SECOND,
    "abort_timeout": SECOND * 2,
    "journal_retention": timedelta(days=1),
    "ingress_private": True,
    "invocation_retry_policy": POLICY,
}
ANNOUNCED = HandlingOptions(
    inactivity_timeout=1000,
    abort_timeout=2000,
    journal_retention=86_400_000,
    ingress_private=True,
    retry_policy_initial_interval=250,
    retry_policy_max_interval=60_000,
    retry_policy_max_attempts=5,
    retry_policy_exponentiation_factor=3.0,
    retry_policy_on_max_attempts="KILL",
)


def extended(**more: Any) -> HandlingOptions:
    """The common options and some more."""
    return HandlingOptions(**{name: getattr(ANNOUNCED, name) for name in FIELDS} | more)


def policy(**fields: Any) -> InvocationRetryPolicy:
    """A retry policy of anything."""
    return InvocationRetryPolicy(**fields)


FIELDS = HandlingOptions.__struct_fields__


async def run(ctx: Any, name: str) -> str:
    """Greet and wait.

    For long.
    """
    return name


async def query(ctx: Any, count: int | None) -> None: ...


def test_services_and_handlers_announce_their_options() -> None:
    """Those of a plain service."""
    service = Service("S", "about", {"team": "a"}, idempotency_retention=SECOND, **COMMON)
    service.handler(metadata={"x": "y"}, idempotency_retention=SECOND * 3, **COMMON)(run)

    announced = service.manifest()

    assert announced.options == extended(idempotency_retention=1000)
    assert (announced.documentation, announced.metadata) == ("about", {"team": "a"})
    (handler,) = announced.handlers
    assert handler.options == extended(idempotency_retention=3000)
    assert (handler.documentation, handler.metadata) == ("Greet and wait.\n\nFor long.", {"x": "y"})


def test_options_left_out_stay_open() -> None:
    """So that the service's, or the node's, hold."""
    service = Service("S")
    service.handler()(run)

    assert service.manifest().options == HandlingOptions()
    assert service.manifest().handlers[0].options == HandlingOptions()


@pytest.mark.parametrize(
    ("given", "lazy"),
    [
        ({"state_preload": True}, False),
        ({"state_preload": False}, True),
        ({"state_preload": []}, True),
        ({"enable_lazy_state": True}, True),
        ({"enable_lazy_state": False}, False),
        ({}, None),
    ],
)
def test_state_is_announced_as_sent_along_or_not(given: dict[str, Any], lazy: bool | None) -> None:
    """By either of two options, for objects and workflows and their handlers."""
    thing = VirtualObject("Thing", **given)
    thing.handler(**given)(query)
    flow = Workflow("Flow", **given)
    flow.main(**given)(run)

    for announced in (thing.manifest(), flow.manifest()):
        assert announced.options.enable_lazy_state is lazy
        assert announced.handlers[0].options.enable_lazy_state is lazy


def test_workflows_announce_a_main_handler_and_others() -> None:
    """The main one with the time that its result is kept."""
    flow = Workflow("Flow", idempotency_retention=SECOND, **COMMON)
    flow.main("start", workflow_retention=timedelta(days=2))(run)
    flow.handler()(query)

    announced = app([flow]).manifest()[0]

    assert announced.ty is ServiceKind.WORKFLOW
    assert announced.options == extended(idempotency_retention=1000)
    assert [(each.name, each.ty) for each in announced.handlers] == [
        ("start", HandlerKind.WORKFLOW),
        ("query", HandlerKind.SHARED),
    ]
    assert announced.handlers[0].options == HandlingOptions(
        workflow_completion_retention=172_800_000
    )
    assert handler_of(run).kind is HandlerKind.WORKFLOW


def test_workflows_have_one_main_handler() -> None:
    """No second, and not none."""
    flow = Workflow("Flow")
    with pytest.raises(HandlerSignatureError, match="workflow Flow has no main handler"):
        app([flow])
    flow.main()(run)
    line = query.__code__.co_firstlineno
    with pytest.raises(
        HandlerSignatureError, match=rf"options.py:{line}: .*has the main handler run already"
    ):
        flow.main()(query)


def test_input_is_required_where_nothing_would_not_do() -> None:
    """A front door may then refuse an empty body by itself."""
    service = Service("S")

    async def text(ctx: Any, value: str) -> None: ...
    async def maybe(ctx: Any, value: str | None) -> None: ...
    async def raw(ctx: Any, value: bytes) -> None: ...
    async def defaulted(ctx: Any, value: int = 1) -> None: ...
    async def anything(ctx: Any, value) -> None: ...  # type: ignore[no-untyped-def]
    async def nothing(ctx: Any) -> None: ...

    for function in (text, maybe, raw, defaulted, anything, nothing):
        service.handler()(function)

    required = {each.name: each.input_required for each in service.manifest().handlers}
    assert [name for name, needed in required.items() if needed] == ["text"]


def test_managers_and_times_of_invocations_are_kept_with_the_handler() -> None:
    """Those of the service go around those of the handler."""

    def one() -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def two() -> AbstractAsyncContextManager[None]:
        return nullcontext()

    service = Service("S", invocation_context_managers=[one])
    service.handler(invocation_context_managers=[two], timeout=SECOND)(run)

    assert handler_of(run).context_managers == (one, two)
    assert handler_of(run).timeout == SECOND


def test_managers_go_around_each_run_in_their_order() -> None:
    """Whatever the handler does is within them."""
    seen: list[str] = []

    def within(name: str) -> Any:
        @asynccontextmanager
        async def manager() -> AsyncIterator[None]:
            seen.append(f"enter {name}")
            yield
            seen.append(f"leave {name}")

        return manager

    service = Service("S", invocation_context_managers=[within("service")])

    @service.handler(invocation_context_managers=[within("handler")])
    async def noted(ctx: Context, name: str) -> str:
        seen.append(await ctx.run("a step", lambda: name))
        return name

    to_the_end(service, "noted", Journal(b'"x"'))

    assert seen == ["enter service", "enter handler", "x", "leave handler", "leave service"]


def test_managers_need_an_async_handler() -> None:
    """They are async themselves."""

    def blocking(ctx: Any) -> None: ...

    with pytest.raises(HandlerSignatureError, match="cannot go around; make it `async def`"):
        Service("S", invocation_context_managers=[nullcontext]).handler()(blocking)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"abort_timeout": 5}, "abort_timeout of handler S/query takes a timedelta"),
        ({"journal_retention": -SECOND}, "journal_retention .* zero milliseconds or more"),
        ({"timeout": timedelta(0)}, "option timeout of .* 1 milliseconds or more"),
        ({"ingress_private": "yes"}, "ingress_private .* takes True or False, not 'yes'"),
        ({"ingress_private": False}, "ingress_private .* cannot be False"),
        ({"state_preload": "all"}, "state_preload .* takes True or False"),
        ({"state_preload": True, "enable_lazy_state": False}, "enable_lazy_state is not given"),
        ({"invocation_retry_policy": 3}, "takes an InvocationRetryPolicy, not 3"),
        (
            {"invocation_retry_policy": policy(max_attempts=0)},
            r"invocation_retry_policy\.max_attempts .* a number from 1",
        ),
        (
            {"invocation_retry_policy": policy(exponentiation_factor=0.5)},
            "exponentiation_factor .* 1 or more",
        ),
        (
            {"invocation_retry_policy": policy(on_max_attempts="stop")},
            "'pause' or 'kill', not 'stop'",
        ),
        (
            {"invocation_retry_policy": policy(max_interval=1)},
            "max_interval .* takes a timedelta",
        ),
        ({"invocation_context_managers": [1]}, "invocation_context_managers .* takes a list"),
        ({"metadata": {"a": 1}}, "metadata .* takes a dict of texts"),
        ({"kind": "single"}, "kind takes 'exclusive' or 'shared', not 'single'"),
    ],
)
def test_values_that_an_option_does_not_take_are_refused(given: dict[str, Any], words: str) -> None:
    """With the place, the option and what it takes."""
    thing = VirtualObject("S", ingress_private=True)
    with pytest.raises(InvalidOptionError, match=r"test_handling_options.py:\d+: .*" + words):
        thing.handler(**given)(query)
    assert thing.handlers == {}


def test_services_refuse_such_values_too() -> None:
    """At the line that makes the service."""
    with pytest.raises(InvalidOptionError, match=r"test_handling.*:\d+: .*abort.* of service Flow"):
        Workflow("Flow", abort_timeout=1)  # type: ignore[arg-type]
    with pytest.raises(InvalidOptionError, match="description of service S takes text, not 5"):
        Service("S", 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "1st", "with space", "a/b", "__x", "ä", "x" * 256, 5])
def test_names_that_no_path_could_have_are_refused(name: Any) -> None:
    """Where they are given, and not when a worker offers them."""
    with pytest.raises(InvalidOptionError, match=r"options.py:\d+: option name of a service takes"):
        Service(name)
    if name:
        with pytest.raises(InvalidOptionError, match=r"options.py:\d+: option name of a handler"):
            Service("S").handler(name)(query)


def test_names_of_every_allowed_form_are_taken() -> None:
    """Up to their greatest length."""
    for name in ("a", "_1", "Greeter.v1-beta", "x" * 255):
        assert Service(name).name == name
    Service("S").handler("x" * 255)(query)
    Service("S").handler("_private")(query)
