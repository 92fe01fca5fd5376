"""How the product is put together: parts are links, and the bare install stays bare."""

import os
import re
import subprocess
import sys
import tomllib

import pytest

from .tree import PARTS, TREE

PACKAGE = TREE / "src" / "perdure"

SERVER_EXTRAS = (
    "granian",
    "grpc_health",
    "grpc_reflection",
    "prometheus_client",
    "rich",
    "structlog",
    "typer",
    "uvloop",
    "xxhash",
)
"""Import names of what ``perdure[server]`` adds; a user's own program has none of them."""


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that are loaded after a statement in a fresh interpreter."""
    program = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("name", [*PARTS, "__init__.py", "py.typed"])
def test_package_entry_is_a_link_to_the_root(name: str) -> None:
    """A copy in place of a link would go stale and be installed all the same."""
    entry = PACKAGE / name

    assert entry.is_symlink(), "run: git config core.symlinks true && git checkout -- src/perdure"
    assert os.readlink(entry) == f"../../{name}"
    assert entry.exists(), f"{name} is not there at the root"


def test_package_holds_links_only() -> None:
    """Nothing is installed that is not a part."""
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}

    assert entries == {*PARTS, "__init__.py", "py.typed"}


def test_every_folder_of_product_code_is_a_part() -> None:
    """A root folder that is a package has a link, or it would not be installed."""
    packages = {path.parent.name for path in TREE.glob("*/__init__.py")}

    assert packages - {"tests", "bench", "examples", "scripts"} == set(PARTS)


def test_links_stay_links_in_the_index() -> None:
    """Git stores them as links too, so that a clone gets links."""
    listed = subprocess.run(
        ["git", "ls-files", "--stage", "src/perdure"],
        cwd=TREE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git clone")
    modes = {line.split()[3]: line.split()[0] for line in listed.stdout.splitlines()}

    assert {path for path, mode in modes.items() if mode != "120000"} == set()
    assert {path.removeprefix("src/perdure/") for path in modes} == {
        *PARTS,
        "__init__.py",
        "py.typed",
    }


def test_sdk_needs_no_server_extra() -> None:
    """A program that only offers handlers installs and loads the bare package."""
    loaded = loaded_by("import perdure.sdk")

    assert "perdure" in loaded
    assert loaded & set(SERVER_EXTRAS) == set()


def test_root_package_loads_nothing() -> None:
    """Asking for the version costs nothing."""
    loaded = loaded_by("import perdure; perdure.__version__")

    assert loaded & {"grpc", "google", "rocksdict", "msgspec", *SERVER_EXTRAS} == set()


def test_list_of_server_extras_is_complete() -> None:
    """The list above names what pyproject.toml puts into the extra, no more and no less."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    renamed = {"grpcio_health_checking": "grpc_health", "grpcio_reflection": "grpc_reflection"}
    names = {
        re.split(r"[^\w-]", requirement, maxsplit=1)[0].replace("-", "_").lower()
        for requirement in project["optional-dependencies"]["server"]
    }

    assert {renamed.get(name, name) for name in names} == set(SERVER_EXTRAS)
