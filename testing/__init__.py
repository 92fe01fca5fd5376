"""For tests of what is built with Perdure, and of Perdure: a whole node in one process.

`Environment` runs an app on a clock that jumps; see ``docs/testing.md``. Imports any part, each
only when it is asked for, so that a test runner that knows this package pays nothing for it.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .crash_points import CrashAt, CrashPoint
    from .environment import Environment
    from .errors import CrashMismatchError, ReplayMismatchError, StalledError, TestingFailure
    from .harness import HarnessEnvironment, create_test_harness
    from .in_process import InProcessNode
    from .inspection import Entry
    from .running import run
    from .scenarios import crash_everywhere

_MODULES: Final = {
    "CrashAt": "crash_points",
    "CrashMismatchError": "errors",
    "CrashPoint": "crash_points",
    "Entry": "inspection",
    "Environment": "environment",
    "HarnessEnvironment": "harness",
    "InProcessNode": "in_process",
    "ReplayMismatchError": "errors",
    "StalledError": "errors",
    "TestingFailure": "errors",
    "crash_everywhere": "scenarios",
    "create_test_harness": "harness",
    "run": "running",
}

__all__ = [
    "CrashAt",
    "CrashMismatchError",
    "CrashPoint",
    "Entry",
    "Environment",
    "HarnessEnvironment",
    "InProcessNode",
    "ReplayMismatchError",
    "StalledError",
    "TestingFailure",
    "crash_everywhere",
    "create_test_harness",
    "run",
]


def __getattr__(name: str) -> Any:
    """The names of `__all__`, each from its module.

    Raises AttributeError for any other, and ImportError where the engine is not installed.
    """
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{module}", __name__), name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"tests run the engine, which needs {error.name}: pip install 'perdure[server]'"
        ) from error
