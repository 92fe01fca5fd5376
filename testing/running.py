"""Running a test's coroutine on an event loop that virtual time can take over."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """As ``asyncio.run``, on asyncio's own loop whatever the program's policy is.

    Raises what `main` raises, and RuntimeError inside of a running loop.
    """
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(main)
