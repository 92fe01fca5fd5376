"""The test harness of the official SDK by its names, without containers and without ports."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from ..sdk.client import RestateClient
from ..sdk.entry_codec import JournalValueCodec
from ..sdk.errors import UnsupportedOptionError
from .environment import AppLike, Environment

INGRESS_URL: Final = "in-process://ingress"
ADMIN_API_URL: Final = "in-process://admin"


class HarnessEnvironment:
    """What `create_test_harness` gives.

    Attributes:
        client: calls handlers.
        ingress_url: a name only, which nothing listens at.
        admin_api_url: a name only, which nothing listens at.
        environment: everything else that can be done.
    """

    def __init__(
        self,
        ingress_url: str,
        admin_api_url: str,
        client: RestateClient,
        environment: Environment | None = None,
    ) -> None:
        """Take all of them."""
        self.ingress_url = ingress_url
        self.admin_api_url = admin_api_url
        self.client = client
        self.environment = environment


@asynccontextmanager
async def create_test_harness(
    app: AppLike,
    follow_logs: bool = False,
    restate_image: str = "",
    always_replay: bool = False,
    disable_retries: bool = False,
    journal_value_codec: JournalValueCodec | None = None,
    **options: Any,
) -> AsyncIterator[HarnessEnvironment]:
    """An environment under the official name, ``async with create_test_harness(app) as env:``.

    `follow_logs` and `restate_image` are taken for compatibility: logs go to ``logging``, and there
    is no container. `always_replay` has handlers suspend whenever they wait, `disable_retries` ends
    an invocation with its first failure. The rest are options of `Environment`.

    Raises UnsupportedOptionError for a codec, and what `Environment` raises.
    """
    if journal_value_codec is not None:
        raise UnsupportedOptionError(
            "option journal_value_codec is not supported by this release; leave it out"
        )
    given = list(options.pop("options", ()))
    if disable_retries:
        given += ["retry.max_attempts=1", "retry.on_max_attempts=kill"]
    async with Environment(app, always_suspend=always_replay, options=given, **options) as env:
        yield HarnessEnvironment(INGRESS_URL, ADMIN_API_URL, env.client, env)
