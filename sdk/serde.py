"""Serialization by annotation: bytes stay raw, everything else is JSON.

Dataclasses, `msgspec.Struct`, NamedTuple, TypedDict, enums, dates and the builtin types go through
msgspec, pydantic's models also where one of those has them inside; annotations that name a model go
through pydantic, which is never imported from here. A TypedDict of JSON's own types is taken as it
comes, without a check.
None is no bytes at all, as other clients of the protocol have it.
"""

import abc
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import CodeType, GenericAlias, UnionType
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec

from .errors import SerializationError

T = TypeVar("T")

JSON_CONTENT_TYPE: Final = "application/json"
BYTES_CONTENT_TYPE: Final = "application/octet-stream"


def _encode_unknown(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"objects of type {type(value).__name__} are not supported")
    return dump(mode="json")


def _decode_unknown(kind: Any, value: Any) -> Any:
    validate = getattr(kind, "model_validate", None)
    if validate is not None:
        return validate(value)
    if get_origin(kind) is Iterable:
        items = GenericAlias(list, get_args(kind))
        return msgspec.convert(value, items, dec_hook=_decode_unknown)
    raise TypeError(f"objects of type {getattr(kind, '__name__', kind)} are not supported")


def _is_plain(annotation: Any, within: tuple[Any, ...] = ()) -> bool:
    """Whether an annotation names JSON's own types only, so that there is nothing to convert."""
    if annotation in _PLAIN or annotation in within or get_origin(annotation) is Literal:
        return True
    if is_typeddict(annotation):
        inside = (*within, annotation)
        return all(_is_plain(each, inside) for each in get_type_hints(annotation).values())
    return get_origin(annotation) in _PLAIN_ORIGINS and all(
        _is_plain(each, within) for each in get_args(annotation)
    )


_encode_json: Final = msgspec.json.Encoder(enc_hook=_encode_unknown).encode
_decode_json: Final = msgspec.json.Decoder().decode
_PLAIN: Final = (str, int, float, bool, list, dict, None, type(None), Any, object)
_PLAIN_ORIGINS: Final = (list, dict, Union, UnionType, Iterable, Sequence, Mapping)
_NO_TYPE: Final = (None, inspect.Parameter.empty, Any, object)


class Serde(Generic[T], abc.ABC):
    """How values become bytes and come back; derive from it to bring your own format."""

    @abc.abstractmethod
    def deserialize(self, buf: bytes) -> T | None:
        """The value that `serialize` wrote."""

    @abc.abstractmethod
    def serialize(self, obj: T | None) -> bytes:
        """The bytes of a value; the same value must always give the same bytes."""


class BytesSerde(Serde[bytes]):
    """Bytes as they are."""

    content_type: Final = BYTES_CONTENT_TYPE

    def deserialize(self, buf: bytes) -> bytes:
        """The same bytes."""
        return buf

    def serialize(self, obj: bytes | None) -> bytes:
        """The same bytes, none for None. Raises SerializationError for anything else."""
        if obj is None:
            return b""
        if isinstance(obj, bytes):
            return obj
        if isinstance(obj, bytearray | memoryview):
            return bytes(obj)
        raise SerializationError(f"expected bytes, got {type(obj).__name__}")


class JsonSerde(Serde[T]):
    """JSON of the builtin types, dataclasses and structs; comes back as builtin types."""

    def deserialize(self, buf: bytes) -> T | None:
        """The JSON value as builtin types, None for no bytes."""
        return cast("T", _decode_json(buf)) if buf else None

    def serialize(self, obj: T | None) -> bytes:
        """JSON, no bytes for None. Raises SerializationError for what has no JSON form."""
        if obj is None:
            return b""
        if type(obj) is bytes:
            raise SerializationError(
                "bytes stay raw only where an annotation, type_hint or serde says bytes; add one"
            )
        try:
            return _encode_json(obj)
        except (TypeError, ValueError, OverflowError) as error:
            raise SerializationError(
                f"{type(obj).__name__!r} has no JSON form ({error}); return builtin types, "
                "dataclasses, msgspec structs or pydantic models, or annotate bytes"
            ) from None


class DefaultSerde(JsonSerde[T]):
    """Stands for "choose by annotation"; by itself the same as `JsonSerde`."""

    def __init__(self, type_hint: Any = None) -> None:
        """Take the type to read, None to leave the choice to whoever uses it."""
        self.type_hint = type_hint

    def with_maybe_type(self, type_hint: Any = None) -> "DefaultSerde[T]":
        """Another one, that reads `type_hint`."""
        return DefaultSerde(type_hint)

    def deserialize(self, buf: bytes) -> T | None:
        """As the type that was given says."""
        if self.type_hint is None:
            return super().deserialize(buf)
        return cast("T", serde_of(self.type_hint).deserialize(buf))


class MsgspecJsonSerde(JsonSerde[T]):
    """JSON that must fit a type; refuses bytes that do not with msgspec's sentence."""

    def __init__(self, model: Any) -> None:
        """Take the type. Raises SerializationError for one that msgspec does not know."""
        self.model = model
        try:
            self._decode = msgspec.json.Decoder(model, dec_hook=_decode_unknown).decode
        except (TypeError, NameError) as error:
            raise SerializationError(f"{model!r} cannot be read from JSON: {error}") from None
        self.takes_none = _takes_null(self._decode)

    def deserialize(self, buf: bytes) -> T | None:
        """The value. Raises msgspec's errors, which name the field and what was expected."""
        if not buf and self.takes_none:
            return None
        return cast("T", self._decode(buf or b"null"))


class PydanticJsonSerde(Serde[T]):
    """JSON through pydantic, for a model or a type made of models."""

    def __init__(self, model: Any) -> None:
        """Take the model or type. Raises SerializationError where pydantic is not imported."""
        pydantic = sys.modules.get("pydantic")
        if pydantic is None:
            raise SerializationError(f"{model!r} is read with pydantic: install and import it")
        self.model = model
        self._adapter = pydantic.TypeAdapter(model)
        self.takes_none = _takes_null(self._adapter.validate_json)

    def deserialize(self, buf: bytes) -> T | None:
        """The validated value. Raises pydantic's ValidationError."""
        if not buf and self.takes_none:
            return None
        return cast("T", self._adapter.validate_json(buf or b"null"))

    def serialize(self, obj: T | None) -> bytes:
        """JSON as pydantic writes it, no bytes for None."""
        return b"" if obj is None else cast("bytes", self._adapter.dump_json(obj))


class NoneSerde(Serde[None]):
    """For what takes or gives nothing: no bytes."""

    def deserialize(self, buf: bytes) -> None:
        """None, whatever is there."""

    def serialize(self, obj: None) -> bytes:
        """No bytes. Raises SerializationError for anything but None."""
        if obj is not None:
            raise SerializationError(f"annotated as None, but gave {type(obj).__name__!r}")
        return b""


def _takes_null(decode: Callable[[bytes], Any]) -> bool:
    try:
        decode(b"null")
    except ValueError:  # what the errors of msgspec and of pydantic have in common
        return False
    return True


def is_pydantic(annotation: Any) -> bool:
    """Whether an annotation is one of pydantic's models or dataclasses itself."""
    return isinstance(annotation, type) and "__pydantic_validator__" in vars(annotation)


def _mentions(is_meant: Callable[[Any], bool], annotation: Any) -> bool:
    return is_meant(annotation) or any(_mentions(is_meant, each) for each in get_args(annotation))


JSON: Final[Serde[Any]] = JsonSerde()
DEFAULT: Final[Serde[Any]] = DefaultSerde()
BYTES: Final[Serde[Any]] = cast("Serde[Any]", BytesSerde())
NONE: Final[Serde[Any]] = cast("Serde[Any]", NoneSerde())

_by_type: dict[Any, Serde[Any]] = {bytes: BYTES, bytearray: BYTES, type(None): NONE}
_by_code: dict[tuple[CodeType, str], Serde[Any]] = {}


def serde_of(annotation: Any) -> Serde[Any]:
    """The serialization that an annotation asks for. Raises SerializationError."""
    try:
        known = _by_type.get(annotation)
    except TypeError:  # an annotation that cannot be hashed is built anew each time
        return _build(annotation)
    if known is None:
        known = _by_type[annotation] = _build(annotation)
    return known


def _build(annotation: Any) -> Serde[Any]:
    if any(annotation is nothing for nothing in _NO_TYPE):
        return JSON
    if _mentions(is_pydantic, annotation):
        return PydanticJsonSerde(annotation)
    # Type checkers check a TypedDict, nobody does at run time; apps leave keys out of theirs, and
    # msgspec cannot tell those of a union from one another.
    if _mentions(is_typeddict, annotation) and _is_plain(annotation):
        return JSON
    return MsgspecJsonSerde(annotation)


def serde_of_result(action: Callable[..., Any]) -> Serde[Any]:
    """The serialization of what a step's closure returns, by its return annotation if it has one.

    Raises SerializationError when the annotation has no serialization.
    """
    annotations = getattr(action, "__annotations__", None)
    if not annotations or "return" not in annotations:
        return JSON
    annotation = annotations["return"]
    if not isinstance(annotation, str):
        return NONE if annotation is None else serde_of(annotation)
    code: CodeType = action.__code__
    known = _by_code.get((code, annotation))
    if known is None:
        try:
            resolved = inspect.get_annotations(action, eval_str=True)["return"]
        except Exception:
            # The text means something only where it was written; builtin types are the best left.
            resolved = Any
        known = NONE if resolved is None else serde_of(resolved)
        _by_code[code, annotation] = known
    return known


def needs_bytes(serde: Serde[Any]) -> bool:
    """Whether no bytes at all are no value that a serialization takes, as far as is known."""
    takes_none: bool = getattr(serde, "takes_none", True)
    return not takes_none


def content_type_of(serde: Serde[Any]) -> str | None:
    """What the manifest says of a serialization."""
    if serde is NONE:
        return None
    return getattr(serde, "content_type", JSON_CONTENT_TYPE)
