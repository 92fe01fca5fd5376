"""Services, virtual objects and what they announce."""

from typing import Any

import pytest

from perdure.core.protocol.session import HandlerKind, ServiceKind
from perdure.sdk import Context, ObjectContext, Service, VirtualObject, app
from perdure.sdk.errors import (
    DuplicateServiceError,
    HandlerSignatureError,
    NoServicesError,
    NotAHandlerError,
    UnsupportedOptionError,
)
from perdure.sdk.handlers import handler_of

from .fake_node import Journal, parsed, to_the_end


async def good(ctx: Context, name: str) -> str:
    return name


async def no_input(ctx: Context) -> None: ...


async def raw(ctx: Context, body: bytes) -> bytes:
    return body


async def by_default(ctx: Context, count: int = 7) -> int:
    return count


async def no_context() -> None: ...


async def too_many(ctx: Context, one: int, two: int) -> None: ...


async def keyword_only(ctx: Context, *, one: int) -> None: ...


async def any_number(ctx: Context, *values: int) -> None: ...


async def unknown_type(ctx: Context, value: "Nowhere") -> None: ...  # type: ignore  # noqa: F821


def plain(ctx: Context, name: str) -> str:
    return name


async def many(ctx: Context) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (no_context, "a context and at most one argument"),
        (too_many, "a context and at most one argument"),
        (keyword_only, "a context and at most one argument"),
        (any_number, "a context and at most one argument"),
        (unknown_type, "Nowhere"),
        (many, "is a generator"),
    ],
)
def test_bad_signatures_are_refused_with_their_line(function: Any, words: str) -> None:
    """At decoration, before anything runs."""
    service = Service("Service")
    with pytest.raises(HandlerSignatureError) as caught:
        service.handler()(function)

    line = function.__code__.co_firstlineno
    assert f"test_service.py:{line}: " in str(caught.value)
    assert words in str(caught.value)
    assert caught.value.code == "PD0705"


def test_two_handlers_of_one_name_are_refused() -> None:
    """The second one."""
    service = Service("Service")
    service.handler()(good)
    with pytest.raises(HandlerSignatureError, match="has a handler good already"):
        service.handler()(good)


def test_decorated_functions_stay_what_they_are() -> None:
    """They can be called and tested without a runtime."""
    service = Service("Service")

    assert service.handler()(good) is good


def test_handlers_are_found_by_their_function() -> None:
    """Callers name a handler by its function."""
    thing = VirtualObject("Thing")
    thing.handler("renamed", kind="shared")(plain)

    handler = handler_of(plain)

    assert handler.target == "Thing/renamed"
    assert (handler.service_name, handler.name) == ("Thing", "renamed")
    assert handler.service_kind is ServiceKind.VIRTUAL_OBJECT
    assert handler.kind is HandlerKind.SHARED
    assert not handler.is_async


def test_functions_that_are_no_handlers_are_named_with_their_line() -> None:
    """Where a handler is asked for by its function."""
    line = no_context.__code__.co_firstlineno
    with pytest.raises(
        NotAHandlerError, match=rf"test_service.py:{line}: no_context is no handler"
    ):
        handler_of(no_context)
    with pytest.raises(NotAHandlerError, match="7 is no handler"):
        handler_of(7)  # type: ignore[arg-type]


def test_unsupported_options_are_said_aloud() -> None:
    """An option that would change behaviour is not dropped in silence."""
    line = good.__code__.co_firstlineno
    with pytest.raises(UnsupportedOptionError, match=rf"test_service.py:{line}: .*state_preload"):
        VirtualObject("Thing").handler(state_preload=["one"])(good)
    with pytest.raises(UnsupportedOptionError, match=r"test_service.py:\d+: option identity_keys"):
        app([Service("Service")], identity_keys=["key"])
    app([Service("Service")], protocol="bidi", identity_keys=[])


def test_manifest_tells_kinds_and_content_types() -> None:
    """What the node learns of handlers."""
    service = Service("Service", "described", metadata={"a": "b"})
    service.handler()(good)
    service.handler()(no_input)
    service.handler(name="bytes")(raw)
    thing = VirtualObject("Thing")
    thing.handler()(by_default)
    thing.handler(kind="shared", accept="*/*")(good)
    first, second = app([service, thing]).manifest()

    assert (first.name, first.ty) == ("Service", ServiceKind.SERVICE)
    assert [handler.ty for handler in first.handlers] == [None] * 3
    assert [handler.name for handler in first.handlers] == ["good", "no_input", "bytes"]
    types = [(each.input_content_type, each.output_content_type) for each in first.handlers]
    assert types == [
        ("application/json", "application/json"),
        (None, None),
        ("application/octet-stream", "application/octet-stream"),
    ]
    assert second.ty is ServiceKind.VIRTUAL_OBJECT
    assert [each.ty for each in second.handlers] == [HandlerKind.EXCLUSIVE, HandlerKind.SHARED]
    assert second.handlers[1].input_content_type == "*/*"


def test_default_argument_stands_for_no_body() -> None:
    """A body goes before it."""
    service = Service("Service")
    service.handler()(by_default)

    assert parsed(to_the_end(service, "by_default", Journal())[0]).value.content == b"7"
    assert parsed(to_the_end(service, "by_default", Journal(b"1"))[0]).value.content == b"1"


def test_result_that_does_not_fit_its_annotation_fails_the_attempt() -> None:
    """And names the handler."""
    service = Service("Service")

    @service.handler()
    async def wrong(ctx: Context) -> bytes:
        return "text"  # type: ignore[return-value]

    error = parsed(to_the_end(service, "wrong", Journal())[0])

    assert error.code == 500
    assert "Service/wrong: expected bytes, got str" in error.message


def test_state_takes_bytes_as_they_are() -> None:
    """And gives them back with a hint."""
    thing = VirtualObject("Thing")

    @thing.handler()
    async def it(ctx: ObjectContext) -> bytes:
        ctx.set("b", b"\xff")
        ctx.set("j", {"a": 1})
        assert await ctx.get("j") == {"a": 1}
        return await ctx.get("b", type_hint=bytes) or b""

    sent = to_the_end(thing, "it", Journal(state={}))

    assert parsed(sent[-2]).value.content == b"\xff"


def test_apps_have_services_of_different_names() -> None:
    """And at least one."""
    with pytest.raises(DuplicateServiceError, match="'Same'"):
        app([Service("Same"), VirtualObject("Same")])
    with pytest.raises(NoServicesError):
        app([])
    with pytest.raises(NoServicesError, match="is no service"):
        app([good])  # type: ignore[list-item]
