"""Our names and signatures beside those of the official SDK, of which a table is stored.

The table is facts that ``scripts/official_signatures.py`` wrote down. Where ours differ the reason
stands below; a reason that is not needed any more fails too.
"""

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import perdure.sdk as restate
from perdure.sdk.errors import UnsupportedOptionError

TABLE: dict[str, Any] = json.loads((Path(__file__).parent / "official_signatures.json").read_text())
OPAQUE = "(an object)"
NOT_HERE = {
    "ScopedContext": "scopes are not supported; ctx.scope and client.scope say so",
}
"""Names of the official package that ours has not: reason."""

INSIDE = {
    "SdkInternalException": "raised by its own machinery and caught by nobody by name",
    "SuspendedException": "raised by its own machinery and caught by nobody by name",
    "MsgspecJsonAPI": "stands in for msgspec where that is not installed; here it always is",
}
"""Classes that the official modules need for themselves: what for."""

ELSEWHERE = {
    "client_types.RestateClient": "in perdure.sdk and perdure.sdk.client",
    "client_types.RestateScopedClient": "scopes are not supported",
    "context.KeyValueStore": "what it has is in ObjectContext itself",
    "context.ScopedContext": "scopes are not supported",
    "exceptions.SdkInternalException": INSIDE["SdkInternalException"],
    "exceptions.SuspendedException": INSIDE["SuspendedException"],
    "serde.DaciteFromDict": "dataclasses need no help of another package here",
    "serde.DaciteToDict": "dataclasses need no help of another package here",
    "serde.Msgspec": INSIDE["MsgspecJsonAPI"],
    "serde.MsgspecJsonAPI": INSIDE["MsgspecJsonAPI"],
    "serde.try_import_from_dacite": "for the module's own use",
    "serde.try_import_msgspec_api": "for the module's own use",
    "serde.try_import_pydantic_base_model": "for the module's own use",
}
"""Names that are not in the module of ours that is named like the official one: why."""

DIFFERENT = {
    "restate.DurablePromise": "users get it from ctx.promise and do not make it",
    "restate.SdkInternalBaseException": "users catch it and do not make it",
    "exceptions.SdkInternalBaseException": "users catch it and do not make it",
}
"""Dotted name: why our signature cannot take what the official one takes."""


SIGNATURES = {
    f"{module}.{name}": (module, name, parameters)
    for module, names in TABLE.items()
    if isinstance(names, dict) and module != "places"
    for name, parameters in names.items()
    if name.partition(".")[0] not in NOT_HERE | INSIDE
}


def ours(module: str, name: str) -> Any:
    """What we have under a name."""
    there = restate if module == "restate" else importlib.import_module(f"perdure.sdk.{module}")
    value: Any = there
    for part in name.split("."):
        value = getattr(value, part)
    return value


def parameters_of(value: Any) -> list[inspect.Parameter]:
    """The parameters that a caller gives; none for a class that its users do not make."""
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except ValueError:
        return []
    return [each for each in parameters if each.name != "self"]


def difference(official: list[list[Any]], mine: list[inspect.Parameter]) -> str | None:
    """Why a call that fits the official signature may not fit ours."""
    for position, (name, kind, *default) in enumerate(official):
        parameter = mine[position] if position < len(mine) else None
        if kind in ("KEYWORD_ONLY", "VAR_KEYWORD"):
            parameter = next((each for each in mine if each.name == name), None)
        if parameter is None or parameter.name != name or parameter.kind.name != kind:
            return f"parameter {name} is {kind} at {position}, ours is {parameter!r}"
        if default and parameter.default is inspect.Parameter.empty:
            return f"parameter {name} has a default, ours has none"
        if default and default != [OPAQUE] and parameter.default != default[0]:
            return f"parameter {name} is {default[0]!r} by default, ours is {parameter.default!r}"
    known = {name for name, *_rest in official}
    for parameter in mine:
        needed = parameter.default is inspect.Parameter.empty and "VAR" not in parameter.kind.name
        if needed and parameter.name not in known:
            return f"ours needs {parameter.name}"
    return None


def test_the_older_harness_says_what_to_use() -> None:
    """It gave clients of a container."""
    assert not restate.test_harness.__test__  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedOptionError, match="create_test_harness"):
        restate.test_harness(restate.app([restate.Service("S")]))


def test_every_official_name_is_there() -> None:
    """Those of the package itself, which the import line brings."""
    missing = [name for name in TABLE["all"] if not hasattr(restate, name)]

    assert sorted(missing) == sorted(NOT_HERE)
    assert set(TABLE["all"]) - set(NOT_HERE) <= set(restate.__all__)


def test_names_are_in_the_modules_where_apps_import_them_from() -> None:
    """Such as TerminalError in exceptions."""
    missing = {
        f"{place}.{name}"
        for place, names in TABLE["places"].items()
        for name in names
        if not hasattr(importlib.import_module(f"perdure.sdk.{place}"), name)
    }

    assert missing == set(ELSEWHERE)


@pytest.mark.parametrize("dotted", sorted(SIGNATURES))
def test_calls_that_fit_the_official_signature_fit_ours(dotted: str) -> None:
    """Names, order, kinds and plain defaults."""
    module, name, official = SIGNATURES[dotted]
    try:
        value = ours(module, name)
    except AttributeError:
        found: str | None = "there is no such name"
    else:
        found = None if official is None else difference(official, parameters_of(value))

    if dotted in DIFFERENT:
        assert found is not None, "the reason is no longer needed"
    else:
        assert found is None
