"""HTTP listeners take what `listen` takes: names as well as numbers."""

import asyncio
import contextlib
import http.client
import socket
from typing import Any

import pytest

from perdure.core.errors import TransportError
from perdure.core.http_server import HttpProtocol, HttpScope, HttpServer


class Hello:
    """Answers everything."""

    async def __rsgi__(self, scope: HttpScope, protocol: HttpProtocol) -> None:
        protocol.response_bytes(200, [], b"hello")


def fetch(address: str) -> bytes:
    """What is answered at an address."""
    connection = http.client.HTTPConnection(address, timeout=120)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_listens_at_a_host_and_keeps_how_it_was_called(host: str) -> None:
    """Others are told the address: in containers a name stays and a number does not."""

    async def run() -> tuple[str, bytes]:
        server = HttpServer(Hello(), "listen.admin")
        bound = await server.start(f"{host}:0")
        try:
            return bound, await asyncio.to_thread(fetch, bound.replace(host, "127.0.0.1"))
        finally:
            await server.stop(0)

    bound, answer = asyncio.run(run())

    assert bound.startswith(f"{host}:")
    assert answer == b"hello"


def test_nobody_is_given_its_port_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It binds late, and would share the port with whoever had got it meanwhile."""
    taken: list[bool] = []
    serve = HttpServer._serve

    async def look_and_serve(self: HttpServer, server: Any) -> None:
        with socket.socket() as other, contextlib.suppress(OSError):
            other.bind(("127.0.0.1", server.bind_port))
            taken.append(True)
        await serve(self, server)

    async def run() -> None:
        server = HttpServer(Hello(), "listen.admin")
        bound = await server.start("127.0.0.1:0")
        assert await asyncio.to_thread(fetch, bound) == b"hello"
        await server.stop(0)

    monkeypatch.setattr(HttpServer, "_serve", look_and_serve)
    asyncio.run(run())

    assert taken == []


def test_refuses_a_name_that_is_not_found() -> None:
    async def run() -> None:
        await HttpServer(Hello(), "listen.admin").start("nowhere.invalid:0")

    with pytest.raises(TransportError, match=r"nowhere\.invalid:0.*listen\.admin"):
        asyncio.run(run())
