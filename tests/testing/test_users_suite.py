"""A user's suite in a pytest of its own: it passes in both modes, quickly and without a port."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import perdure

from ..tree import TREE

HERE = Path(__file__).parent
PLUGIN = "perdure.testing.pytest_plugin"


def pytest_of(*arguments: str, directory: Path = TREE) -> str:
    """The output of a pytest that has the plugin, whether it passes or not."""
    # The same copy of the product, whatever directory it is run in.
    environment = os.environ | {"PYTHONPATH": str(Path(perdure.__file__).parent.parent)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("options", [(), ("--perdure-always-suspend",)])
def test_a_users_suite_passes(
    options: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    """Its own audit hook refuses every port; the time is noted, not asserted."""
    output = pytest_of("tests/testing/users_suite.py", *options)

    passed = re.search(r"(\d+) passed in ([0-9.]+)s", output)
    assert passed is not None, output
    assert "failed" not in output
    assert int(passed[1]) == 11
    record_property("seconds", float(passed[2]))


def test_the_hook_of_the_suite_would_see_a_port(tmp_path: Path) -> None:
    """So that its silence means something."""
    (tmp_path / "test_port.py").write_text(
        "import socket\n"
        "from perdure_suite import users_suite\n\n\n"
        "def test_port():\n"
        "    with socket.socket() as one:\n"
        '        one.bind(("127.0.0.1", 0))\n'
    )
    (tmp_path / "perdure_suite").symlink_to(HERE)

    assert "AssertionError: socket.bind" in pytest_of("test_port.py", directory=tmp_path)


def test_the_example_of_the_documentation_passes(tmp_path: Path) -> None:
    """As it stands there."""
    text = (TREE / "docs" / "testing.md").read_text()
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert example is not None
    (tmp_path / "test_example.py").write_text(example[1])

    assert "3 passed" in pytest_of("test_example.py", directory=tmp_path)
