"""The pytest plugin: it runs the tests that take its fixture and leaves all others alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from .test_users_suite import pytest_of

APP = """
from datetime import timedelta

import pytest

from perdure.sdk import Context, Service

service = Service("Service")


@service.handler()
async def nap(ctx: Context, days: int) -> str:
    await ctx.sleep(timedelta(days=days))
    return "awake"


@pytest.fixture
def perdure_app():
    return service
"""


def output_of(directory: Path, text: str, *arguments: str, app: str = APP) -> str:
    """What pytest says of a file with these tests."""
    (directory / "test_it.py").write_text(app + text)
    return pytest_of("test_it.py", *arguments, directory=directory)


def test_coroutines_that_take_the_fixture_are_run(tmp_path: Path) -> None:
    output = output_of(
        tmp_path,
        """
@pytest.mark.parametrize("days", [1, 1000])
async def test_nap(perdure_env, days):
    assert await perdure_env.client.service_call(nap, days) == "awake"


async def test_that_fails(perdure_env):
    assert await perdure_env.client.service_call(nap, 1) == "asleep"
""",
    )

    assert "1 failed, 2 passed" in output
    assert "AssertionError: assert 'awake' == 'asleep'" in output


def test_marks_give_options_and_the_nearest_wins(tmp_path: Path) -> None:
    output = output_of(
        tmp_path,
        """
pytestmark = pytest.mark.perdure(skip_time=False, seed=1)


async def test_of_the_module(perdure_env):
    handle = await perdure_env.client.service_send(nap, 1)
    assert perdure_env.status(handle.invocation_id) == "running"
    await perdure_env.advance(timedelta(days=1))
    assert perdure_env.status(handle.invocation_id) == "completed"


@pytest.mark.perdure(skip_time=True)
async def test_of_its_own(perdure_env):
    assert await perdure_env.client.service_call(nap, 1) == "awake"
""",
        "--strict-markers",
    )

    assert "2 passed" in output


def test_one_option_has_the_whole_suite_suspend(tmp_path: Path) -> None:
    text = """
@pytest.mark.perdure(skip_time=False)
async def test_nap(perdure_env):
    handle = await perdure_env.client.service_send(nap, 1)
    await perdure_env.advance(timedelta(seconds=1))
    assert perdure_env.status(handle.invocation_id) == "suspended"
"""

    assert "1 failed" in output_of(tmp_path, text)
    assert "1 passed" in output_of(tmp_path, text, "--perdure-always-suspend")


def test_a_replay_mismatch_fails_the_test(tmp_path: Path) -> None:
    output = output_of(
        tmp_path,
        """
names = iter("abcdef")


@service.handler()
async def changes(ctx: Context) -> None:
    await ctx.run_typed(next(names), str)


async def test_changes(perdure_env):
    await perdure_env.client.service_call(changes, None)
""",
    )

    assert "ReplayMismatchError: Service/changes does not replay: [PD0710] journal" in output
    line = (
        (tmp_path / "test_it.py")
        .read_text()
        .splitlines()
        .index("    await ctx.run_typed(next(names), str)")
    )
    assert f"test_it.py:{line + 1}: the code now does Run" in output
    assert "1 failed" in output


def test_without_an_app_the_fixture_says_what_to_define(tmp_path: Path) -> None:
    output = output_of(tmp_path, "async def test_it(perdure_env):\n    pass\n", app="")

    assert "fixture perdure_app" in output


def test_plain_functions_enter_it_themselves(tmp_path: Path) -> None:
    output = output_of(
        tmp_path,
        """
def test_nap(perdure_env):
    import perdure.testing

    async def use():
        async with perdure_env as env:
            return await env.client.service_call(nap, 3)

    assert perdure.testing.run(use()) == "awake"
""",
    )

    assert "1 passed" in output


def test_tests_that_another_plugin_runs_enter_it_themselves(tmp_path: Path) -> None:
    output = output_of(
        tmp_path,
        """
@pytest.mark.anyio
async def test_nap(perdure_env):
    async with perdure_env as env:
        assert await env.client.service_call(nap, 3) == "awake"


@pytest.fixture
def anyio_backend():
    return "asyncio"
""",
    )

    assert "1 passed" in output


def test_tests_without_the_fixture_are_not_touched(tmp_path: Path) -> None:
    output = output_of(
        tmp_path,
        """
import sys


def test_plain():
    assert not [name for name in sys.modules if name.startswith("perdure.testing.")][1:]


@pytest.mark.anyio
async def test_of_another_plugin():
    pass


@pytest.fixture
def anyio_backend():
    return "asyncio"
""",
        app="import pytest\n",
    )

    assert "2 passed" in output


@pytest.mark.parametrize("module", ["perdure.testing", "perdure.testing.environment"])
def test_the_kit_itself_does_not_need_pytest(module: str) -> None:
    program = f"import sys; sys.modules['pytest'] = None; import {module}"

    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0
