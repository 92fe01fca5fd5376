"""Serving an app from a program of one's own."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from perdure.core.net.inproc import InProcTransport
from perdure.sdk import ConnectError, Context, Service, app, connect, with_connection
from perdure.sdk.errors import UnsupportedOptionError

from .fake_node import parsed
from .fake_session import World
from .test_worker import opening, started

service = Service("Service")
waiting: asyncio.Event


@service.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A node of the fake kind that listens at node:1."""
    there = World(app([service]))
    listener = await there.listen("node:1")
    async with asyncio.timeout(60):
        yield there
    await listener.close()


def greeting() -> bytes:
    """What opens an attempt."""
    return opening("greet", started(b'"Ann"'))


def options(there: World) -> dict[str, Any]:
    """What leads to it."""
    return {"addresses": ["node:1"], "transport": InProcTransport(there.network)}


def test_an_app_is_served_within_the_block() -> None:
    """From the welcome on, under a name that ends with the state of the code."""

    async def main() -> tuple[str, bytes]:
        async with world() as there:
            async with with_connection(there.app, name="greeter", **options(there)) as connection:
                node = await there.node()
                node.send((1, greeting()))
                answer = await node.answer(1, 2)
                assert node.hello is not None
                assert node.hello.deployment == connection.name
            await node.until(lambda: node.closed)
        return connection.name, parsed(answer[0]).value.content

    name, content = asyncio.run(main())

    assert content == b'"Hello Ann"'
    assert name.startswith("greeter-")
    assert len(name) == len("greeter-") + 16


def test_a_node_that_refuses_for_good_ends_it() -> None:
    """Before the block begins as well as within it."""

    async def main() -> None:
        async with world() as there:
            there.greetings = ["never"]
            with pytest.raises(ConnectError, match="not here"):
                async with with_connection(there.app, **options(there)):
                    raise AssertionError("begun")

    asyncio.run(main())


def test_shutdown_ends_it_before_the_block_does() -> None:
    """And `wait` tells."""

    async def main() -> None:
        async with world() as there:
            for grace in (0.0, 5.0):
                async with with_connection(there.app, **options(there)) as connection:
                    await connection.shutdown(grace)
                    await connection.wait()

    asyncio.run(main())


def test_connect_serves_until_a_signal_comes() -> None:
    """And leaves signals as they were."""

    async def main() -> None:
        async def leave(there: World) -> None:
            node = await there.node()
            node.send((1, greeting()))
            await node.answer(1, 2)
            os.kill(os.getpid(), signal.SIGTERM)

        async with world() as there, asyncio.TaskGroup() as group:
            group.create_task(leave(there))
            await connect(there.app, **options(there))

    before = signal.getsignal(signal.SIGTERM)
    asyncio.run(main())

    assert signal.getsignal(signal.SIGTERM) == before


def test_keys_are_refused() -> None:
    """Nodes of this release ask for none."""

    async def main() -> None:
        with pytest.raises(UnsupportedOptionError, match="option key"):
            await connect(app([service]), key="secret")

    asyncio.run(main())
