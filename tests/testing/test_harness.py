"""The official harness by its names."""

import itertools
from typing import Any

import pytest

from perdure.sdk import Context, HttpError, Service
from perdure.sdk.errors import UnsupportedOptionError
from perdure.testing import create_test_harness, run

from . import users_app as app


@pytest.mark.parametrize("always_replay", [False, True])
def test_the_client_of_the_harness_calls_handlers(always_replay: bool) -> None:
    async def main() -> tuple[str, int]:
        async with create_test_harness(
            app.services, follow_logs=True, restate_image="any", always_replay=always_replay
        ) as env:
            assert env.ingress_url
            assert env.admin_api_url
            reminded = await env.client.service_call(app.remind, 3)
            return reminded, await env.client.object_call(app.add, "ann", 4)

    assert run(main()) == ("reminded", 4)


def test_always_replay_has_handlers_leave_the_worker() -> None:
    async def main() -> str:
        async with create_test_harness(app.services, always_replay=True) as env:
            handle = await env.client.service_send(app.remind, 3)
            assert env.environment is not None
            await env.environment.advance(app.DAY)
            return env.environment.status(handle.invocation_id)

    assert run(main()) == "suspended"


def test_without_retries_the_first_failure_ends_the_invocation() -> None:
    tries = itertools.count()
    service = Service("Service")

    @service.handler()
    async def it(ctx: Context) -> None:
        next(tries)
        raise ValueError("always")

    async def main() -> None:
        async with create_test_harness(service, disable_retries=True) as env:
            with pytest.raises(HttpError, match="always"):
                await env.client.service_call(it, None)

    run(main())

    assert next(tries) == 1


def test_codecs_are_refused() -> None:
    async def main() -> None:
        codec: Any = object()
        async with create_test_harness(app.services, journal_value_codec=codec):
            raise AssertionError("not reached")

    with pytest.raises(UnsupportedOptionError, match="journal_value_codec"):
        run(main())
