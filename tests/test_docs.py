"""The documents hold together: links resolve, and every error code is explained, once."""

import ast
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from perdure.sdk import Service, VirtualObject

from .tree import TREE, product_sources

DOCUMENTS = sorted(
    path.relative_to(TREE).as_posix()
    for path in [
        *TREE.glob("*.md"),
        *(TREE / "docs").rglob("*.md"),
        *(TREE / "deploy").rglob("*.md"),
        *(TREE / "bench").glob("*.md"),
        *(TREE / "examples").glob("*.md"),
    ]
)
CODE = re.compile(r"PD\d{4}")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
TEST = re.compile(r"`(?:tests/)?([\w/]+\.py)::(\w+)`")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
EXTERNAL = ("http://", "https://", "mailto:")


class ErrorClass(NamedTuple):
    """One class of the product that carries a code."""

    code: str
    name: str
    where: str


def prose(text: str) -> Iterator[str]:
    """The lines of a document that are not in a fenced block."""
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced:
            yield line


def anchors(text: str) -> set[str]:
    """The anchors that a document's headings get, as the usual Markdown viewers make them."""
    seen: Counter[str] = Counter()
    found: set[str] = set()
    for line in prose(text):
        heading = HEADING.match(line)
        if heading is None:
            continue
        words = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
        seen[slug] += 1
    return found


def broken_links(document: Path) -> Iterator[str]:
    """Each relative link of a document that leads nowhere, with the reason."""
    for line in prose(document.read_text(encoding="utf-8")):
        for link in LINK.findall(re.sub(r"`[^`]*`", "", line)):
            if link.startswith(EXTERNAL):
                continue
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            if not target.is_relative_to(TREE) or not target.exists():
                yield f"{link}: no such file"
            elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
                yield f"{link}: no such heading"


def error_classes() -> list[ErrorClass]:
    """Every class of the product whose body gives it a code."""
    found: list[ErrorClass] = []
    for source in product_sources():
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.ClassDef):
                continue
            for statement in node.body:
                match statement:
                    case (
                        ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=code))
                        | ast.AnnAssign(target=ast.Name(id="code"), value=ast.Constant(value=code))
                    ) if isinstance(code, str) and CODE.fullmatch(code):
                        found.append(
                            ErrorClass(code, node.name, f"{source.path}:{statement.lineno}")
                        )
                    case _:
                        pass
    return found


def documented_errors() -> list[tuple[str, str]]:
    """(code, name) of each row of docs/errors.md."""
    rows: list[tuple[str, str]] = []
    for line in (TREE / "docs" / "errors.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        if CODE.fullmatch(cells[0]):
            assert len(cells) == 4, f"a row has code, name, meaning and what to do: {line}"
            assert all(cells), f"an empty cell: {line}"
            rows.append((cells[0], cells[1]))
    return rows


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_resolve(document: str) -> None:
    """Every link to a file or heading of ours leads somewhere."""
    assert list(broken_links(TREE / document)) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_tests_that_are_named_exist(document: str) -> None:
    named = TEST.findall((TREE / document).read_text(encoding="utf-8"))
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(
            rf"^def {name}\(", (TREE / "tests" / file).read_text(encoding="utf-8"), re.MULTILINE
        )
    ]

    assert missing == []


def test_every_page_can_be_reached_from_the_index() -> None:
    """docs/README.md leads to every page below docs/."""
    index = (TREE / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {(TREE / "docs" / link.partition("#")[0]).resolve() for link in LINK.findall(index)}
    pages = {path.resolve() for path in (TREE / "docs").rglob("*.md")}

    assert pages - linked - {(TREE / "docs" / "README.md").resolve()} == set()


def test_error_codes_are_unique() -> None:
    """A code names one class for ever."""
    counts = Counter(error.code for error in error_classes())

    assert {code: count for code, count in counts.items() if count > 1} == {}


def test_error_codes_are_explained() -> None:
    """Every code of the product has a row, under the name of its class."""
    rows = dict(documented_errors())
    missing = [
        f"{error.code} {error.name} ({error.where})"
        for error in error_classes()
        if rows.get(error.code) != error.name
    ]

    assert missing == [], "no row in docs/errors.md for " + ", ".join(missing)


def test_explained_error_codes_exist() -> None:
    """Every row of the page belongs to a class of the product, and there is one per code."""
    rows = documented_errors()
    known = {(error.code, error.name) for error in error_classes()}

    assert [row for row in rows if row not in known] == []
    assert rows == sorted(set(rows)), "one row per code, in order"


def test_the_example_of_the_readme_is_an_app(tmp_path: Path) -> None:
    """What a reader copies from the first page defines the services that the page calls."""
    text = (TREE / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "app.py").write_text(example, encoding="utf-8")
    namespace = runpy.run_path(str(tmp_path / "app.py"))
    services = {
        value.name: sorted(value.handlers)
        for value in namespace.values()
        if isinstance(value, Service | VirtualObject)
    }

    assert services == {"Greeter": ["greet"], "Counter": ["add"]}
    assert "perdure call Greeter/greet" in text
    assert "/Counter/ann/add" in text
