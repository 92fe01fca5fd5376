"""Seeds that nobody has run before: seen in the output, whether the test passes or not."""

import sys

import pytest


def show(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Print a line past pytest, which keeps to itself what passing tests print.

    To stderr: of a process that shares the tests with another one, stdout is their line.
    """
    with capsys.disabled():
        print(f"\n{text}", file=sys.stderr)
