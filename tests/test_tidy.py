"""Style that a machine can check: sizes, docstrings, who imports whom, leftovers.

An exception is a line in one of the tables below, with its reason. An exception that is no longer
needed fails too, so the tables only shrink by themselves.
"""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from .tree import PARTS, TREE, Source, product_sources, python_sources, relative_imports

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
LINE_COLUMNS_MAX = 100

FLOORS: dict[str, set[str]] = {
    "proto": set(),
    "core": {"proto"},
    "metadata": {"proto", "core"},
    "log": {"proto", "core", "metadata"},
    "partition_processor": {"proto", "core", "metadata", "log"},
    "ingress": {"proto", "core", "metadata", "log", "partition_processor"},
    "admin": {"proto", "core", "metadata", "log", "partition_processor", "sdk"},
    "node": {
        "proto",
        "core",
        "metadata",
        "log",
        "partition_processor",
        "ingress",
        "admin",
        "sdk",
    },
    "testing": {part for part in PARTS if part != "testing"},
    "sdk": {"proto", "core"},
}
"""What each part may import besides itself; docs/architecture.md draws it. The command line and
what stands above it may use the sdk, which stands aside; the runtime's own parts may not."""

LONG_FILES: dict[str, str] = {}
"""path: reason."""

LONG_FUNCTIONS: dict[str, str] = {}
"""path::function: reason."""

UPWARD_IMPORTS: dict[tuple[str, str], str] = {
    ("sdk/__init__.py", "testing"): "as sdk/harness.py",
    ("sdk/harness.py", "testing"): (
        "the official SDK has its test harness among its names; ours is loaded when it is used"
    ),
    ("admin/cli/simulate.py", "testing"): (
        "the command that runs simulated worlds has to name them; it does so when it runs"
    ),
    ("admin/cli/dev/__init__.py", "node"): (
        "the command that runs a node beside a worker has to name it, as `perdure server` does"
    ),
    ("admin/cli/up/__init__.py", "node"): (
        "the command that runs a local cluster has to name it; it does so when it runs"
    ),
    ("admin/cli/up/live.py", "node"): "as above, for its types",
    ("admin/cli/up/loop.py", "node"): "as above, for its types",
    ("admin/cli/up/plain.py", "node"): "as above, for its types",
    ("admin/cli/server.py", "node"): (
        "the command that starts a node has to name what it starts; it does so when it runs, "
        "so that no other command loads a node"
    ),
}
"""(path, part imported): reason."""

CIRCLES: dict[str, str] = {
    "testing/simulation/cluster": "a world makes its faults and checks, which reach into all of it",
    "testing/simulation/nodes": "as above",
}
"""folder whose files may know each other in a circle: reason."""

MARKERS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")
TEXT_ENDINGS = {".py", ".md", ".proto", ".sh", ".toml", ".service", ".txt"}
TEXT_FOLDERS = (*PARTS, "bench", "deploy", "docs", "examples", "scripts", "tests", ".ci")


def functions(source: Source) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file, nested ones too."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body, its docstring left out."""
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_files_fit_in_their_limit() -> None:
    """No file is over the limit but those that say why."""
    long = {
        str(source.path): len(source.text.splitlines())
        for source in python_sources()
        if len(source.text.splitlines()) > FILE_LINES_MAX
    }

    assert {path: lines for path, lines in long.items() if path not in LONG_FILES} == {}
    assert set(LONG_FILES) - set(long) == set(), "exceptions no longer needed"


def test_functions_fit_on_a_screen() -> None:
    """No function body is over the limit but those that say why."""
    long = {
        f"{source.path}::{function.name}": body_lines(function)
        for source in python_sources()
        for function in functions(source)
        if body_lines(function) > FUNCTION_LINES_MAX
    }

    assert {name: lines for name, lines in long.items() if name not in LONG_FUNCTIONS} == {}
    assert set(LONG_FUNCTIONS) - set(long) == set(), "exceptions no longer needed"


def test_lines_fit_in_their_columns() -> None:
    """No line is over the limit, strings and comments included."""
    long = [
        f"{source.path}:{number}: {len(line)} columns"
        for source in python_sources()
        for number, line in enumerate(source.text.splitlines(), 1)
        if len(line) > LINE_COLUMNS_MAX
    ]

    assert long == [], "\n".join(long)


def test_product_files_say_what_they_are() -> None:
    """Every product file opens with a docstring whose first line is a sentence of its own."""
    silent = [
        str(source.path)
        for source in product_sources()
        if not (ast.get_docstring(source.tree) or "").strip()
    ]

    assert silent == [], "\n".join(silent)


def test_product_code_imports_relatively() -> None:
    """Absolute names would make a second copy of a module; see docs/decisions/0001-layout.md."""
    ours = {"perdure", *PARTS}
    absolute: list[str] = []
    for source in product_sources():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            absolute += [
                f"{source.path}:{node.lineno}: {name}"
                for name in names
                if name.split(".")[0] in ours
            ]

    assert absolute == [], "\n".join(absolute)


def test_imports_go_downward_only() -> None:
    """No part imports one that stands beside or above it."""
    used: set[tuple[str, str]] = set()
    wrong: list[str] = []
    for source in product_sources():
        for line, target in relative_imports(source):
            part = target[0]
            # The root itself holds the version only, which every part may show.
            if part in (source.part, "__version__"):
                continue
            if source.part and part in FLOORS[source.part]:
                continue
            used.add((str(source.path), part))
            if (str(source.path), part) not in UPWARD_IMPORTS:
                wrong.append(f"{source.path}:{line}: {source.part or 'the root'} imports {part}")

    assert wrong == [], "\n".join(wrong)
    assert set(UPWARD_IMPORTS) - used == set(), "exceptions no longer needed"


def test_floors_have_no_circle() -> None:
    """The table itself allows no way back: whom I may import may not import me."""
    assert set(FLOORS) == set(PARTS)
    for part, below in FLOORS.items():
        for lower in below:
            assert part not in FLOORS[lower], f"{part} and {lower} may import each other"
            # A part stands on all that its lower floors stand on: the table has no gaps.
            missing = FLOORS[lower] - below
            assert missing == set(), f"{part} stands on {lower} but not on {missing}"


def imports_by_path() -> dict[str, set[str]]:
    """What each file of the product imports of the others."""
    known = {source.path.with_suffix("").parts: str(source.path) for source in product_sources()}
    known |= {module[:-1]: path for module, path in known.items() if module[-1] == "__init__"}
    imports: dict[str, set[str]] = {}
    for source in product_sources():
        targets = [target for _, target in relative_imports(source)]
        found = {known.get(target) or known.get(target[:-1], "") for target in targets}
        imports[str(source.path)] = found - {"", str(source.path)}
    return imports


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Files of which each is imported by the next, and the last is the first; none for none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_files_have_no_circle() -> None:
    """No file knows one that knows it, wherever it says so and be it for its types alone."""
    imports = imports_by_path()
    for folder in CIRCLES:
        inside = {path for path in imports if path.startswith(f"{folder}/")}
        among = {path: imports[path] & inside for path in inside}

        assert circle(among), f"{folder}: an exception no longer needed"
        for path in inside:
            imports[path] -= inside

    assert circle(imports) == []


def test_no_marker_is_left_behind() -> None:
    """What is left to do stands in the issue tracker, not in the code."""
    files = [TREE / name for name in ("Makefile", "README.md", "CHANGELOG.md", "pyproject.toml")]
    for folder in TEXT_FOLDERS:
        files += [
            path
            for path in (TREE / folder).rglob("*")
            if path.is_file()
            and (path.suffix in TEXT_ENDINGS or path.parent.name == ".ci")
            and not {"generated", "scratch", "__pycache__"} & set(path.parts)
        ]
    found = [
        f"{path.relative_to(TREE)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MARKERS.search(line)
    ]

    assert found == [], "\n".join(found)


def catches_everything(kind: ast.expr | None) -> bool:
    """Whether an except clause or a suppress() takes every exception."""
    if isinstance(kind, ast.Tuple):
        return any(catches_everything(element) for element in kind.elts)
    return kind is None or (
        isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")
    )


def swallows(node: ast.AST) -> bool:
    """Whether a node takes every exception and does nothing with it."""
    if isinstance(node, ast.ExceptHandler):
        idle = all(
            isinstance(statement, ast.Pass | ast.Continue)
            or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            for statement in node.body
        )
        return idle and catches_everything(node.type)
    if isinstance(node, ast.Call):
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        )
        return name == "suppress" and any(catches_everything(argument) for argument in node.args)
    return False


def test_no_exception_is_swallowed_whole() -> None:
    """A wrong state must not run on: expected failures are caught by name."""
    swallowed = [
        f"{source.path}:{getattr(node, 'lineno', 0)}"
        for source in python_sources()
        for node in ast.walk(source.tree)
        if swallows(node)
    ]

    assert swallowed == [], "\n".join(swallowed)
