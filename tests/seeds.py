"""What tests of worlds that run by seeds have in common, whatever lives in the world."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Protocol

import pytest

PROCESS_SECONDS_MAX = 240


class Judged(Protocol):
    """A report of a seed, as far as is needed here."""

    violated: str
    detail: str


def check_same_in_every_process(script: str, *, seeds: int) -> None:
    """A script prints a digest for each of its seeds: the same ones whatever process runs it.

    Another hash seed gives other sets and dicts of strings, and another memory.
    """
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=PROCESS_SECONDS_MAX,
        ).stdout.split()
        for hash_seed in ("1", "4242")
    ]

    assert len(set(outputs[0])) == seeds
    assert outputs[0] == outputs[1]


def check_found(
    name: str,
    patch: pytest.MonkeyPatch,
    run: Callable[[int], Judged],
    sound: Callable[[int], Judged],
    seeds: Iterable[int],
) -> None:
    """Some seed shows what is broken, and is well once it is not.

    Args:
        patch: what broke it; undone in between.
        run: with what is broken.
        sound: without it.
    """
    tried = list(seeds)
    found = next((seed for seed in tried if run(seed).violated), None)
    assert found is not None, f"{name}: not found within {len(tried)} seeds"
    patch.undo()
    report = sound(found)
    assert not report.violated, f"seed {found} fails without the breakage, too: {report.detail}"


def show(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Print a line past pytest, which keeps to itself what passing tests print.

    To stderr: of a process that shares the tests with another one, stdout is their line.
    """
    with capsys.disabled():
        print(f"\n{text}", file=sys.stderr)
