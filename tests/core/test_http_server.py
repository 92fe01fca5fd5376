"""HTTP listeners take what `listen` takes: names as well as numbers."""

import asyncio
import http.client

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


def test_refuses_a_name_that_is_not_found() -> None:
    async def run() -> None:
        await HttpServer(Hello(), "listen.admin").start("nowhere.invalid:0")

    with pytest.raises(TransportError, match=r"nowhere\.invalid:0.*listen\.admin"):
        asyncio.run(run())
