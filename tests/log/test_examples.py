"""The examples that use the log by itself, run as a user runs them."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("log_two_writers", "and both know it"),
        ("log_account", "3 of 10 tellers paid out 30; 10 of 100 are left"),
    ],
)
def test_example_runs_and_says_what_it_should(name: str, says: str) -> None:
    program = EXAMPLES / f"{name}.py"
    if not program.exists():
        pytest.skip("the examples do not travel with the wheel")
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    assert done.stderr == ""
