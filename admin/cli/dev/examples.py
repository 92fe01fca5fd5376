"""Inputs that a handler takes, made up from its annotation, so that a call can be pasted."""

from typing import Any, Final

import msgspec

DEPTH_MAX: Final = 5
_BY_TYPE: Final[dict[str, Any]] = {
    "string": "text",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "null": None,
    "array": [],
}
_BY_FORMAT: Final = {
    "date-time": "2026-01-31T09:30:00Z",
    "date": "2026-01-31",
    "time": "09:30:00",
    "duration": "PT1H",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example_of(annotation: Any) -> Any:
    """A value that JSON can hold, as simple as the annotation allows; null for one not known."""
    schema = _schema_of(annotation)
    return _example(schema, schema.get("$defs", {}), 0)


def _schema_of(annotation: Any) -> dict[str, Any]:
    own = getattr(annotation, "model_json_schema", None)
    if own is not None:
        schema: dict[str, Any] = own()
        return schema
    try:
        return msgspec.json.schema(annotation)
    except (TypeError, ValueError):
        return {}


def _example(schema: dict[str, Any], definitions: dict[str, Any], depth: int) -> Any:
    if "$ref" in schema:
        schema = definitions.get(schema["$ref"].rpartition("/")[2], {})
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if choices:
        # What may be null is more telling with a value.
        telling = [choice for choice in choices if choice.get("type") != "null"]
        return _example((telling or choices)[0], definitions, depth)
    kind = schema.get("type")
    if kind == "object":
        if depth == DEPTH_MAX:
            return {}
        properties = schema.get("properties", {})
        return {
            name: _example(properties.get(name, {}), definitions, depth + 1)
            for name in schema.get("required", ())
        }
    if kind == "string" and schema.get("format") in _BY_FORMAT:
        return _BY_FORMAT[schema["format"]]
    return _BY_TYPE.get(kind if isinstance(kind, str) else "null")
