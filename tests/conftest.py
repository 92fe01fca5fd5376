"""What holds for every test: one identity per module, nothing left running, which tests apply.

Warnings are errors (see ``pyproject.toml``); collecting garbage after each file makes an unclosed
file, socket, process or un-awaited coroutine speak up in the file that made it, not in a later one.
"""

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more about the machine than about what is tested.
settings.register_profile(
    "perdure", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("perdure")

TREE = Path(__file__).resolve().parent.parent

PARTS = (
    "admin",
    "core",
    "ingress",
    "log",
    "metadata",
    "node",
    "partition_processor",
    "proto",
    "sdk",
    "testing",
)
"""The folders that are the product; their only import names start with ``perdure.``."""

ON_WHEEL = os.environ.get("PERDURE_TEST_WHEEL") == "1"
"""Set by ``make test-wheel``: the product is an installed wheel and the tree is not there."""

# These read the tree itself, which does not travel with the wheel.
_OF_THE_TREE = [
    "partition_processor/test_protocol_table.py",
    "test_deploy.py",
    "test_docs.py",
    "test_packaging.py",
    "test_tidy.py",
]
collect_ignore = _OF_THE_TREE if ON_WHEEL else []


def bare_imports() -> list[str]:
    """Our folders that were imported under their bare name: a second copy of the same modules."""
    bare: list[str] = []
    for part in PARTS:
        module = sys.modules.get(part)
        if module is None:
            continue
        # Another distribution may own the name (``proto`` is one): only our folders count.
        locations = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
        if any(
            location and Path(location).resolve().is_relative_to(TREE / part)
            for location in locations
        ):
            bare.append(part)
    return bare


def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse to run on the wrong copy of the product."""
    import perdure

    # A shell starts what it runs in the background with SIGINT ignored, and children inherit that:
    # the programs that tests end as Ctrl-C does would go on.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    location = Path(perdure.__file__ or "").resolve()
    in_tree = location == TREE / "__init__.py"
    if ON_WHEEL and "site-packages" not in location.parts:
        raise pytest.UsageError(f"the wheel is to be tested, but perdure comes from {location}")
    if not ON_WHEEL and not in_tree:
        raise pytest.UsageError(f"the tree is to be tested, but perdure comes from {location}")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what lives until the end out of every collection of garbage from now on."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _clean_house() -> Iterator[None]:
    """After each file: every part under one name, no thread left, nothing unclosed."""
    before = set(threading.enumerate())
    yield
    assert bare_imports() == [], "import these as perdure.<name>"

    left = [
        thread.name
        for thread in threading.enumerate()
        if thread not in before and thread.is_alive() and not thread.daemon
    ]
    assert left == [], "threads that outlived the tests of this file"

    gc.collect()
