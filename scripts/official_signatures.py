"""Writes down the signatures of the official SDK, which ours are compared with.

    python scripts/official_signatures.py SITE_PACKAGES > tests/compat/official_signatures.json

`SITE_PACKAGES` is a directory with the package `restate` in it, of a Python that can load it. What
is written are facts only: names of classes, functions and parameters, their order and kinds, and
those defaults that are plain values.
"""

import importlib
import importlib.metadata
import inspect
import json
import re
import sys
from typing import Any

MODULES = ("restate", "restate.exceptions", "restate.extensions", "restate.serde")
PLACES = (
    "client_types",
    "context",
    "entry_codec",
    "exceptions",
    "extensions",
    "logging",
    "object",
    "retry_policy",
    "serde",
    "service",
    "workflow",
)
OPAQUE = "(an object)"
PLAIN = (str, int, float, bool, type(None))


def default_of(parameter: inspect.Parameter) -> list[Any]:
    """[] without a default, else the default or the mark of one that is not plain."""
    if parameter.default is inspect.Parameter.empty:
        return []
    plain = isinstance(parameter.default, PLAIN)
    return [parameter.default if plain else OPAQUE]


def parameters_of(function: Any) -> list[list[Any]]:
    """[name, kind, *default] of each parameter, `self` left out."""
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    return [[each.name, each.kind.name, *default_of(each)] for each in parameters]


def is_theirs(value: Any) -> bool:
    """Whether the package itself defines something."""
    return (getattr(value, "__module__", None) or "").startswith("restate")


def signatures_of(module: Any) -> dict[str, Any]:
    """Every class, method and listed function of a module, by dotted name."""
    found: dict[str, Any] = {}
    listed = getattr(module, "__all__", None)
    for name in listed or sorted(vars(module)):
        value = getattr(module, name)
        if not is_theirs(value) or not (listed or inspect.isclass(value)):
            continue
        if not inspect.isclass(value):
            found[name] = parameters_of(value) if inspect.isroutine(value) else None
            continue
        # One without an `__init__` of its own is made by the package, not by its users.
        own = "__init__" in vars(value) and not inspect.isabstract(value)
        found[name] = parameters_of(value) if own else None
        for method, function in inspect.getmembers(value, inspect.isroutine):
            inherited = any(
                getattr(base, method, None) is function
                for base in value.__mro__[1:]
                if base.__name__ in (listed or ())
            )
            if not method.startswith("_") and is_theirs(function) and not inherited:
                found[f"{name}.{method}"] = parameters_of(function)
    return found


def names_in(module: Any) -> list[str]:
    """The public classes and functions that a module defines."""
    return sorted(
        name
        for name, value in vars(module).items()
        if len(name) > 1
        and not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
    )


def main() -> None:
    """Write the table as JSON."""
    (site_packages,) = sys.argv[1:]
    sys.path.insert(0, site_packages)
    table: dict[str, Any] = {"version": importlib.metadata.version("restate-sdk")}
    table["all"] = sorted(importlib.import_module("restate").__all__)
    for name in MODULES:
        short = name.partition(".")[2] or "restate"
        table[short] = signatures_of(importlib.import_module(name))
    table["places"] = {
        name: names_in(importlib.import_module(f"restate.{name}")) for name in PLACES
    }
    text = json.dumps(table, separators=(",", ":"), sort_keys=True)
    # A line for each signature, so that differences between releases can be read.
    print(re.sub(r'(\]|null),"(?=[A-Za-z_.]+":)', r'\1,\n"', text))


if __name__ == "__main__":
    main()
