"""Serialization by annotation."""

import dataclasses
import datetime
import enum
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from perdure.sdk import serde
from perdure.sdk.errors import SerializationError


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Box(msgspec.Struct):
    point: Point
    label: str | None = None


class Color(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: str


class Options(TypedDict):
    depth: int


class Colored(TypedDict):
    color: Color


class Sleep(TypedDict):
    kind: Literal["sleep"]
    seconds: NotRequired[float]


class Say(TypedDict):
    kind: Literal["say"]
    others: "list[Say]"


class Script(TypedDict):
    commands: Iterable[Sleep | Say]


class Model(pydantic.BaseModel):
    name: str
    size: int = 1


class Strict(Model):
    pass


@pydantic.dataclasses.dataclass
class Bounded:
    size: int = pydantic.Field(gt=3)


@dataclasses.dataclass
class Around:
    model: Model
    more: dict[str, Strict]


WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)

TABLE: list[tuple[Any, Any, bytes]] = [
    (bytes, b"\x00\xff", b"\x00\xff"),
    (str, "ä", '"ä"'.encode()),
    (int, 5, b"5"),
    (float, 1.5, b"1.5"),
    (bool, True, b"true"),
    (type(None), None, b""),
    (list[int], [1, 2], b"[1,2]"),
    (dict[str, int], {"b": 1, "a": 2}, b'{"b":1,"a":2}'),
    (tuple[int, str], (1, "a"), b'[1,"a"]'),
    (int | None, 3, b"3"),
    (int | None, None, b""),
    (Any, {"a": [1, None]}, b'{"a":[1,null]}'),
    (Point, Point(1, 2), b'{"x":1,"y":2}'),
    (list[Point], [Point(1)], b'[{"x":1,"y":0}]'),
    (Box, Box(Point(1), "l"), b'{"point":{"x":1,"y":0},"label":"l"}'),
    (Color, Color.RED, b'"red"'),
    (Pair, Pair(1, "b"), b'[1,"b"]'),
    (Options, {"depth": 3}, b'{"depth":3}'),
    (Options, {"other": 3}, b'{"other":3}'),
    (list[Colored], [{"color": Color.RED}], b'[{"color":"red"}]'),
    (datetime.datetime, WHEN, b'"2026-01-02T03:04:05Z"'),
    (Decimal, Decimal("1.10"), b'"1.10"'),
    (Model, Model(name="m"), b'{"name":"m","size":1}'),
    (list[Model], [Model(name="m", size=2)], b'[{"name":"m","size":2}]'),
    (Model | None, None, b""),
    (Bounded, Bounded(4), b'{"size":4}'),
    (
        Around,
        Around(Model(name="m"), {"a": Strict(name="s")}),
        b'{"model":{"name":"m","size":1},"more":{"a":{"name":"s","size":1}}}',
    ),
    (Color | None, Color.RED, b'"red"'),
    (Iterable[int], [1, 2], b"[1,2]"),
    (Iterable[Point], [Point(1)], b'[{"x":1,"y":0}]'),
    (Sleep | Say, {"kind": "say", "others": []}, b'{"kind":"say","others":[]}'),
    (Script, {"commands": [{"kind": "sleep"}]}, b'{"commands":[{"kind":"sleep"}]}'),
    (Point | None, None, b""),
]


@pytest.mark.parametrize(("annotation", "value", "written"), TABLE)
def test_values_come_back_as_they_were(annotation: Any, value: Any, written: bytes) -> None:
    """The form of each kind of annotation."""
    chosen = serde.serde_of(annotation)

    assert chosen.serialize(value) == written
    assert chosen.deserialize(written) == value


@pytest.mark.parametrize(
    ("annotation", "body", "words"),
    [
        (int, b'"5"', "Expected `int`, got `str`"),
        (Point, b'{"x":"a"}', "at `$.x`"),
        (Point, b"{}", "missing required field `x`"),
        (Box, b'{"point":{"x":null}}', "at `$.point.x`"),
        (str, b"", "Expected `str`, got `null`"),
        (Model, b'{"size":1}', "name"),
        (Bounded, b'{"size":1}', "greater than 3"),
        (Colored, b'{"color":"blue"}', "at `$.color`"),
        (Around, b'{"model":{"name":1},"more":{}}', "at `$.model`"),
    ],
)
def test_what_does_not_fit_is_named(annotation: Any, body: bytes, words: str) -> None:
    """The field and what was expected."""
    with pytest.raises((msgspec.ValidationError, pydantic.ValidationError)) as caught:
        serde.serde_of(annotation).deserialize(body)

    assert words in str(caught.value)


def test_pydantic_values_without_annotation_are_written() -> None:
    """A model that is set as state with no hint."""
    assert serde.JSON.serialize(Model(name="m")) == b'{"name":"m","size":1}'


@pytest.mark.parametrize("value", [object(), b"bytes", {1, object()}])
def test_values_without_a_form_are_refused(value: Any) -> None:
    """With what to do."""
    with pytest.raises(SerializationError):
        serde.JSON.serialize(value)


def test_types_without_a_form_are_refused() -> None:
    """When they are looked up, not when the first call comes."""

    with pytest.raises(SerializationError, match="cannot be read from JSON"):
        serde.serde_of(Point | Box)


def test_result_annotations_choose_the_form() -> None:
    """Written out or as text, on functions, coroutines and closures."""

    def raw() -> bytes:
        return b""

    def text() -> "Point":
        return Point(1)

    def nothing() -> None: ...

    async def coroutine() -> Point:
        return Point(1)

    assert serde.serde_of_result(raw) is serde.BYTES
    assert serde.serde_of_result(text).deserialize(b'{"x":1}') == Point(1)
    assert serde.serde_of_result(coroutine).deserialize(b'{"x":1}') == Point(1)
    assert serde.serde_of_result(nothing) is serde.NONE
    assert serde.serde_of_result(lambda: 1) is serde.JSON
    assert serde.serde_of_result(int) is serde.JSON


def test_serdes_by_name() -> None:
    """Those that users hand over themselves."""
    assert serde.MsgspecJsonSerde(Point).deserialize(b'{"x":1}') == Point(1)
    assert serde.PydanticJsonSerde(Model).deserialize(b'{"name":"a"}') == Model(name="a")
    assert serde.DefaultSerde(Point).deserialize(b'{"x":1}') == Point(1)
    assert serde.DefaultSerde().with_maybe_type(Point).deserialize(b'{"x":1}') == Point(1)
    assert serde.DefaultSerde().deserialize(b'{"x":1}') == {"x": 1}
    assert serde.BytesSerde().serialize(None) == b""
    with pytest.raises(SerializationError, match="expected bytes, got str"):
        serde.BytesSerde().serialize("text")  # type: ignore[arg-type]
    with pytest.raises(SerializationError, match="annotated as None"):
        serde.NONE.serialize(1)
