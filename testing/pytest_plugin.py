"""The pytest plugin: the fixture `perdure_env`, and its tests that are coroutines are run.

Installed with Perdure. It imports nothing else of Perdure before a test asks for the fixture.
"""

import inspect
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

if TYPE_CHECKING:
    from .environment import Environment

FIXTURE: Final = "perdure_env"
MARK: Final = "perdure"
ALWAYS_SUSPEND: Final = "--perdure-always-suspend"


def pytest_addoption(parser: pytest.Parser) -> None:
    """One for the whole suite."""
    parser.getgroup("perdure").addoption(
        ALWAYS_SUSPEND,
        action="store_true",
        help="have handlers suspend whenever they wait, and replay them",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers", f"{MARK}(**options): options of perdure.testing.Environment for {FIXTURE}"
    )


@pytest.fixture
def perdure_app() -> Any:
    """The app that `perdure_env` runs: define a fixture of this name that gives it."""
    raise pytest.UsageError(
        f"{FIXTURE} runs the app that the fixture perdure_app gives: define one in the test's file "
        "or in conftest.py that returns an app, a service or a list of services"
    )


@pytest.fixture
def perdure_env(request: pytest.FixtureRequest, perdure_app: Any) -> "Environment":
    """The app of the fixture `perdure_app` on a virtual clock; a `perdure` mark gives options.

    A coroutine that takes it is run by this plugin, with the environment entered. Where another
    plugin runs the test, enter it with ``async with``.
    """
    from .environment import Environment

    options: dict[str, Any] = {}
    for mark in request.node.iter_markers(MARK):
        options = {**mark.kwargs, **options}  # the nearest comes first, and wins
    options.setdefault("always_suspend", request.config.getoption(ALWAYS_SUSPEND))
    return Environment(perdure_app, **options)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine that takes the fixture; leave every other test alone."""
    function = pyfuncitem.obj
    if FIXTURE not in pyfuncitem.fixturenames or not inspect.iscoroutinefunction(function):
        return None
    from .running import run

    values = pyfuncitem.funcargs
    arguments = {name: values[name] for name in inspect.signature(function).parameters}
    environment = cast("Environment", values[FIXTURE])

    async def test() -> None:
        async with environment:
            await function(**arguments)

    run(test())
    return True
