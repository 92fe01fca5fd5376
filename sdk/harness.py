"""The test harness under the names of the official SDK; what it does is in ``perdure.testing``.

That package runs a node and so needs what a node needs; nothing of it is loaded before a harness is
asked for.
"""

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, NoReturn

from .entry_codec import JournalValueCodec
from .errors import UnsupportedOptionError
from .service import App

if TYPE_CHECKING:
    from ..testing.harness import HarnessEnvironment

IMAGE_DEFAULT: Final = "docker.io/restatedev/restate:latest"


def create_test_harness(
    app: App,
    follow_logs: bool = False,
    restate_image: str = IMAGE_DEFAULT,
    always_replay: bool = False,
    disable_retries: bool = False,
    journal_value_codec: JournalValueCodec | None = None,
    **options: Any,
) -> "AbstractAsyncContextManager[HarnessEnvironment]":
    """Serve an app in this process for a test, ``async with create_test_harness(app) as env:``.

    `env.client` calls its handlers. See `perdure.testing.create_test_harness`, whose parameters
    these are; no image is run. Raises ImportError without ``perdure[server]``.
    """
    from ..testing.harness import create_test_harness as create

    return create(
        app,
        follow_logs,
        restate_image,
        always_replay,
        disable_retries,
        journal_value_codec,
        **options,
    )


def _older_harness(
    app: App,
    follow_logs: bool = False,
    restate_image: str = IMAGE_DEFAULT,
    always_replay: bool = False,
    disable_retries: bool = False,
) -> NoReturn:
    """The older harness, which gives HTTP clients of a container. Raises UnsupportedOptionError."""
    raise UnsupportedOptionError(
        "test_harness is not supported: there is no container that it could give clients of; use "
        "`async with create_test_harness(app) as env:` and env.client"
    )


test_harness = _older_harness
"""The official name; no test, though test runners would take it for one."""
test_harness.__test__ = False  # type: ignore[attr-defined]


def __getattr__(name: str) -> Any:
    """`HarnessEnvironment`, from where it is at home. Raises AttributeError for any other name."""
    if name != "HarnessEnvironment":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..testing.harness import HarnessEnvironment

    return HarnessEnvironment
