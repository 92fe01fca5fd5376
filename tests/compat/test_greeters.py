"""Greeters of every kind, as apps for the official SDK write them."""

import typing
from dataclasses import dataclass
from enum import Enum

import msgspec
import pytest
from pydantic import BaseModel

import perdure.sdk as restate
from perdure.sdk import Context, Service, wait_completed
from perdure.sdk.serde import BytesSerde, JsonSerde, Serde

from .running import used

pytestmark = pytest.mark.usefixtures("each_way")


class Request(BaseModel):
    name: str


class Greeting(BaseModel):
    message: str


class StructRequest(msgspec.Struct):
    name: str


class StructGreeting(msgspec.Struct):
    message: str


@dataclass
class DataRequest:
    name: str
    times: int = 1


class Language(Enum):
    ENGLISH = "en"
    FRENCH = "fr"


class TypedRequest(typing.TypedDict):
    name: str
    language: Language


class Words(Serde[list[str]]):
    """A format of the app's own."""

    def deserialize(self, buf: bytes) -> list[str] | None:
        return buf.decode().split() if buf else None

    def serialize(self, obj: list[str] | None) -> bytes:
        return " ".join(obj or []).encode()


greeter = Service("greeter", description="greets", metadata={"team": "a"})
logger = restate.getLogger("greeter")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    logger.info("asked to greet %s", name)
    return f"Hello {name}!"


@greeter.handler(name="withModels")
async def with_models(ctx: Context, req: Request) -> Greeting:
    return Greeting(message=f"Hello {req.name}!")


@greeter.handler()
async def with_structs(ctx: Context, req: StructRequest) -> StructGreeting:
    return StructGreeting(message=f"Hello {req.name}!")


@greeter.handler()
async def with_dataclasses(ctx: Context, req: DataRequest) -> list[DataRequest]:
    return [req] * req.times


@greeter.handler()
async def with_typed_dicts(ctx: Context, req: TypedRequest) -> dict[str, str]:
    return {"language": req["language"].name}


@greeter.handler()
async def without_annotations(ctx, req):  # type: ignore[no-untyped-def]
    return {"got": req}


@greeter.handler()
async def with_nothing(ctx: Context) -> None:
    return None


@greeter.handler()
async def maybe(ctx: Context, name: typing.Optional[str]) -> typing.Optional[str]:  # noqa: UP045
    return name and f"Hello {name}!"


@greeter.handler(accept="*/*", input_serde=BytesSerde(), output_serde=BytesSerde())
async def raw(ctx: Context, body: bytes) -> bytes:
    return body[::-1]


@greeter.handler(input_serde=Words(), output_serde=JsonSerde())
async def own_format(ctx: Context, words: list[str]) -> int:
    return len(words)


@greeter.handler()
async def by_chance(ctx: Context, name: str) -> str:
    number = ctx.random().randint(0, 100)
    chance = ctx.random().randbytes(10)
    unique = ctx.uuid()
    again = await ctx.run("again", lambda: name)
    now = await ctx.time()
    assert 0 <= number <= 100
    assert len(chance) == 10
    assert unique.version == 4
    assert now > 1_700_000_000
    return f"Hello {again} {number}!"


@greeter.handler()
async def both(ctx: Context, name: str) -> list[str]:
    calls = [ctx.service_call(greet, arg=each) for each in (name, name[::-1])]
    done, pending = await wait_completed(*calls)
    greetings = [await each for each in done]
    for each in pending:
        await each.cancel_invocation()  # type: ignore[attr-defined]
    return greetings


def test_greeters_take_and_give_what_their_annotations_say() -> None:
    """With models of all kinds."""
    call = lambda handler, arg=None: used(  # noqa: E731
        lambda client: client.service_call(handler, arg=arg), greeter
    )

    assert call(greet, "Ann") == "Hello Ann!"
    assert call(with_models, Request(name="Ann")) == Greeting(message="Hello Ann!")
    assert call(with_structs, StructRequest("Ann")) == StructGreeting("Hello Ann!")
    assert call(with_dataclasses, DataRequest("Ann", 2)) == [DataRequest("Ann", 2)] * 2
    assert call(with_typed_dicts, {"name": "A", "language": "fr"}) == {"language": "FRENCH"}
    assert call(without_annotations, [1, {"a": None}]) == {"got": [1, {"a": None}]}
    assert call(with_nothing) is None
    assert call(maybe, "Ann") == "Hello Ann!"
    assert call(maybe, None) is None
    assert call(raw, b"\x00\x01") == b"\x01\x00"
    assert call(own_format, ["a", "b"]) == 2


def test_chance_is_there_without_steps() -> None:
    """Seeded by the invocation."""
    greeting = used(lambda client: client.service_call(by_chance, arg="Ann"), greeter)

    assert greeting.startswith("Hello Ann ")


def test_the_first_of_several_calls_is_enough() -> None:
    """The others are cancelled."""
    greetings = used(lambda client: client.service_call(both, arg="Ann"), greeter)

    assert set(greetings) <= {"Hello Ann!", "Hello nnA!"}
    assert greetings
