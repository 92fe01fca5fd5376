"""Reads the repository's own files for the tests that check the house: tidy, packaging, docs."""

import ast
import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .conftest import PARTS, TREE

__all__ = ["PARTS", "TREE", "Source", "product_sources", "python_sources", "relative_imports"]

# Folders with Python files that are ours but not the product.
OTHER_FOLDERS = ("bench", "examples", "scripts", "tests")
NOT_OURS = ("__pycache__", "generated", "scratch")


class Source(NamedTuple):
    """One Python file: where it is, seen from the root, its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def part(self) -> str:
        """The part it belongs to; the empty string for the root ``__init__.py``."""
        return self.path.parts[0] if len(self.path.parts) > 1 else ""


def _read(folders: tuple[str, ...]) -> Iterator[Source]:
    for folder in folders:
        for path in sorted((TREE / folder).rglob("*.py")):
            relative = path.relative_to(TREE)
            if not set(NOT_OURS) & set(relative.parts):
                text = path.read_text(encoding="utf-8")
                yield Source(relative, text, ast.parse(text, str(relative)))


@cache
def product_sources() -> tuple[Source, ...]:
    """Every file that is installed, generated code left out."""
    text = (TREE / "__init__.py").read_text(encoding="utf-8")
    root = Source(Path("__init__.py"), text, ast.parse(text))
    return (root, *_read(PARTS))


@cache
def python_sources() -> tuple[Source, ...]:
    """Every Python file of ours: the product, tests, benchmarks, examples and scripts."""
    sources = (*product_sources(), *_read(OTHER_FOLDERS))
    # A million nodes that live until the end: each later collection of garbage took seconds.
    gc.freeze()
    return sources


def relative_imports(source: Source) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (line, path from the root) of each relative import, wherever in the file it stands.

    ``from ..core.errors import X`` in ``log/batch.py`` gives ``("core", "errors", "X")``; the last
    name may be a module or something in one, which does not matter to who may import whom.
    """
    package = source.path.parent.parts
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)] if node.level > 1 else package
            module = tuple(node.module.split(".")) if node.module else ()
            for alias in node.names:
                yield node.lineno, (*base, *module, alias.name)
        elif isinstance(node, ast.Call):
            called = _import_by_name(node)
            if called is not None:
                yield node.lineno, _resolve(package, called)


def _import_by_name(node: ast.Call) -> str | None:
    """The module that ``import_module(".x", …)`` names, where it names one of ours."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name not in ("import_module", "__import__") or not node.args:
        return None
    argument = node.args[0]
    if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
        return None
    return argument.value if argument.value.startswith((".", "perdure.")) else None


def _resolve(package: tuple[str, ...], name: str) -> tuple[str, ...]:
    if not name.startswith("."):
        return tuple(name.split(".")[1:])
    rest = name.lstrip(".")
    up = len(name) - len(rest) - 1
    base = package[: len(package) - up] if up else package
    return (*base, *rest.split("."))
