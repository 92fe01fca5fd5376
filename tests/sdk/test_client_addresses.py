"""Which front door comes next: several that were given, and those that nodes tell of."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from perdure.core.clock import ManualClock
from perdure.core.errors import TransportError
from perdure.core.random import SeededRandom
from perdure.core.retry import RetryPolicy
from perdure.core.tasks import TaskScope
from perdure.proto.generated import ingress_pb2 as wire
from perdure.sdk.client import create_client
from perdure.sdk.client_addresses import (
    ADDRESS_LENGTH_MAX,
    LEARNED_MAX,
    FrontDoorAddresses,
    given_addresses,
)
from perdure.sdk.client_session import HELD_NS, SessionRequests
from perdure.sdk.client_types import HttpError
from perdure.sdk.errors import InvalidOptionError

from .fake_front_door import Door, Stream
from .test_client_session import asking, asking_scope, call, echo, key_of

AT_ONCE = RetryPolicy(initial_interval_ns=1, interval_max_ns=1, attempts_max=None)
NEVER = RetryPolicy(initial_interval_ns=3600 * 10**9, attempts_max=None)
CLUSTER = "c0ffee"


def doors(*addresses: str, cluster: str = CLUSTER) -> wire.FrontDoors:
    """What a node tells."""
    return wire.FrontDoors(cluster=cluster, addresses=addresses)


class Doors:
    """Front doors by their address; nobody is at the other ones."""

    def __init__(self, *addresses: str) -> None:
        self.clock = ManualClock()
        self.by_address = {address: Door(echo) for address in addresses}
        self.tried: list[str] = []

    async def open_stream(self, address: str) -> Stream:
        self.tried.append(address)
        if address not in self.by_address:
            raise TransportError("nobody there")
        return await self.by_address[address].open_stream()

    def tell(self, *addresses: str) -> None:
        """Have all of them tell the same."""
        for door in self.by_address.values():
            door.doors = doors(*addresses)

    def kill(self, address: str) -> None:
        """Lose a door with its sessions."""
        for stream in self.by_address.pop(address).streams:
            stream.lose()

    @asynccontextmanager
    async def session(
        self, *given: str, retry: RetryPolicy = NEVER
    ) -> AsyncIterator[SessionRequests]:
        """A session that waits for ever once a round is over, unless told otherwise."""
        session = SessionRequests(
            self.open_stream,
            given,
            clock=self.clock,
            random=SeededRandom(1),
            retry=retry,
            give_up_seconds=10,
            open_seconds_max=60,
        )
        async with asyncio.timeout(60), TaskScope("test") as scope:
            scope.spawn(session.run(), name="session")
            try:
                yield session
            finally:
                scope.cancel()


# A session and its addresses


def test_the_next_address_is_tried_at_once_when_a_connection_is_lost() -> None:
    """Requests are repeated there as they were; one that may not be fails."""

    async def main() -> None:
        fakes = Doors("a:1", "b:1")
        fakes.by_address["a:1"].answer = lambda request: None
        async with fakes.session("a:1", "b:1") as session, asking_scope() as scope:
            tasks = [asking(session, scope, key) for key in "xy"]
            once = asking(session, scope, "once", repeatable=False)
            before = await fakes.by_address["a:1"].received(3)
            fakes.kill("a:1")
            assert [(await task).call.value for task in tasks] == [b"x", b"y"]
            with pytest.raises(HttpError, match=r"a:1: the wire was cut; whether .* not known"):
                await once
        assert fakes.tried == ["a:1", "b:1"]
        assert fakes.by_address["b:1"].batches == [before[:2]]

    asyncio.run(main())


def test_a_round_of_all_comes_before_a_pause() -> None:
    """And requests wait meanwhile, also those that may be sent once only."""

    async def main() -> None:
        fakes = Doors()
        async with (
            fakes.session("a:1", "b:1", "c:1") as session,
            asking_scope() as scope,
        ):
            waiting = asking(session, scope, "x", repeatable=False)
            for _ in range(50):
                await asyncio.sleep(0)
            assert fakes.tried == ["a:1", "b:1", "c:1"]
            assert not waiting.done()
            waiting.cancel()

    asyncio.run(main())


def test_whoever_gives_up_names_what_was_tried() -> None:
    """And says that a request was perhaps taken by the first of them."""

    async def main() -> None:
        fakes = Doors("a:1")
        fakes.by_address["a:1"].answer = lambda request: None
        async with (
            fakes.session("a:1", "b:1", retry=AT_ONCE) as session,
            asking_scope() as scope,
        ):
            sent = asking(session, scope, "x")
            await fakes.by_address["a:1"].received(1)
            fakes.kill("a:1")
            while fakes.tried.count("b:1") < 2:
                await asyncio.sleep(0)
            fakes.clock.advance(11 * 10**9)
            late = r":1, the last of 2 tried: nobody there; whether .* not known"
            with pytest.raises(HttpError, match=late):
                await sent

    asyncio.run(main())


def test_a_client_of_one_node_goes_to_those_that_it_told_of() -> None:
    """Also to a node that was added while the session was open."""

    async def main() -> None:
        fakes = Doors("n1:1", "n2:1", "n3:1")
        fakes.tell("n1:1", "n2:1")
        async with fakes.session("n1:1") as session:
            await session.request(call("x"), repeatable=True)
            fakes.by_address["n1:1"].streams[0].tell(doors("n3:1", "n1:1", "n2:1"))
            await session.request(call("y"), repeatable=True)
            fakes.kill("n1:1")
            assert (await session.request(call("z"), repeatable=True)).call.value == b"z"
        assert fakes.tried == ["n1:1", "n3:1"]

    asyncio.run(main())


def test_addresses_that_lead_nowhere_do_no_harm() -> None:
    """One where nobody is, one that takes no sessions, one that never opens one."""

    async def main() -> None:
        fakes = Doors("n1:1", "refusing:1", "n2:1")
        fakes.tell("nobody:1", "refusing:1", "not an address", "n2:1")
        fakes.by_address["refusing:1"].refusals = [HttpError(501, "no sessions")]
        async with fakes.session("n1:1") as session:
            await session.request(call("x"), repeatable=True)
            fakes.kill("n1:1")
            assert (await session.request(call("y"), repeatable=True)).call.value == b"y"
        assert fakes.tried == ["n1:1", "nobody:1", "refusing:1", "n2:1"]

    asyncio.run(main())


@pytest.mark.parametrize("foreign", [None, doors("x:1", cluster="another")])
def test_nothing_is_asked_of_another_cluster(foreign: wire.FrontDoors | None) -> None:
    """An address that was advertised wrongly may lead into one, such as that of this machine."""

    async def main() -> None:
        fakes = Doors("n1:1", "127.0.0.1:8081", "n2:1")
        fakes.tell("127.0.0.1:8081", "n2:1")
        stranger = fakes.by_address["127.0.0.1:8081"]
        stranger.doors = foreign
        async with fakes.session("n1:1") as session:
            await session.request(call("x"), repeatable=True)
            fakes.kill("n1:1")
            await session.request(call("y"), repeatable=True)
        assert fakes.tried == ["n1:1", "127.0.0.1:8081", "n2:1"]
        assert stranger.batches == []
        assert stranger.streams[0].closed
        assert [key_of(each) for each in fakes.by_address["n2:1"].batches[0]] == ["y"]

    asyncio.run(main())


def test_a_given_address_is_taken_at_its_word() -> None:
    """Behind it may be a cluster that was set up anew."""

    async def main() -> None:
        fakes = Doors("n1:1")
        fakes.tell("n1:1", "n2:1")
        async with fakes.session("n1:1", retry=AT_ONCE) as session:
            await session.request(call("x"), repeatable=True)
            fakes.by_address["n1:1"].doors = doors("n1:1", cluster="anew")
            fakes.by_address["n1:1"].streams[0].lose()
            assert (await session.request(call("y"), repeatable=True)).call.value == b"y"
        assert fakes.tried == ["n1:1", "n2:1", "n1:1"]

    asyncio.run(main())


def test_doors_that_all_refuse_are_not_asked_again_and_again() -> None:
    """Their refusal is the answer, once each has been asked; one that is down may mend."""

    async def main() -> None:
        fakes = Doors("a:1", "b:1")
        for door in fakes.by_address.values():
            door.refusals = [HttpError(501, "no sessions")]
        async with fakes.session("a:1", "b:1") as session:
            with pytest.raises(HttpError, match="no sessions"):
                await session.request(call("x"), repeatable=True)
        assert fakes.tried == ["a:1", "b:1"]

        fakes = Doors("a:1")
        fakes.by_address["a:1"].refusals = [HttpError(501, "no sessions")]
        async with fakes.session("a:1", "down:1", retry=AT_ONCE) as session:
            assert (await session.request(call("x"), repeatable=True)).call.value == b"x"
        assert fakes.tried == ["a:1", "down:1", "a:1"]

    asyncio.run(main())


def test_doors_that_open_and_break_at_once_are_not_tried_without_a_pause() -> None:
    """A session that has lasted is another matter: its loss begins a round."""

    async def main(lasting: bool) -> list[str]:
        fakes = Doors("a:1", "b:1")

        def breaking(request: wire.SessionRequest) -> None:
            if lasting and len(fakes.tried) < 4:
                fakes.clock.advance(HELD_NS)
            fakes.by_address[fakes.tried[-1]].streams[-1].lose()

        for door in fakes.by_address.values():
            door.answer = breaking
        async with fakes.session("a:1", "b:1") as session, asking_scope() as scope:
            waiting = asking(session, scope, "x")
            for _ in range(200):
                await asyncio.sleep(0)
            waiting.cancel()
        return fakes.tried

    assert asyncio.run(main(lasting=False)) == ["a:1", "b:1"]
    assert asyncio.run(main(lasting=True)) == ["a:1", "b:1", "a:1", "b:1"]


# The addresses by themselves


def test_given_addresses_come_first_and_stay() -> None:
    known = FrontDoorAddresses(["a:1", "b:1", "a:1"])
    assert known.all == ("a:1", "b:1")

    known.opened(doors("c:1", "b:1", "c:1", "d:1"))
    assert known.all == ("a:1", "b:1", "c:1", "d:1")

    known.told(doors("e:1"))
    assert known.all == ("a:1", "b:1", "e:1")

    known.opened(None)
    assert known.all == ("a:1", "b:1")


def test_a_learned_address_that_is_told_no_more_is_not_tried_again() -> None:
    known = FrontDoorAddresses(["a:1"])
    known.opened(doors("b:1", "c:1"))
    assert not known.failed()
    assert known.current == "b:1"
    known.opened(doors("c:1"))
    known.held()
    assert not known.failed()
    assert known.current == "a:1"
    assert not known.failed()
    assert known.current == "c:1"
    assert known.failed()
    assert known.current == "a:1"


def test_what_is_learned_is_bounded() -> None:
    """In number and length; and what can lead nowhere is left out."""
    known = FrontDoorAddresses(["a:1"])
    known.opened(doors(*(f"n{number}:1" for number in range(2 * LEARNED_MAX))))
    assert len(known.all) == 1 + LEARNED_MAX

    long = "x" * ADDRESS_LENGTH_MAX + ":1"
    known.told(doors("", "b", "b:0", "0.0.0.0:1", "[::]:1", "b:99999", long, "[::1]:1"))
    assert known.all == ("a:1", "[::1]:1")


def test_several_addresses_are_given_as_a_text_or_a_sequence() -> None:
    assert given_addresses(None) == ("127.0.0.1:8081",)
    assert given_addresses(" a:1, b:2,,a:1 ") == ("a:1", "b:2")
    assert given_addresses(["a:1", "b:2"]) == ("a:1", "b:2")
    assert given_addresses("http://a,https://b/x") == ("http://a", "https://b/x")
    for wrong, why in (
        ([], "names no address"),
        (" , ", "names no address"),
        ("a:1,b", "'b': an address is host:port"),
        (["a:1", "http://b"], "mixes URLs with host:port"),
    ):
        with pytest.raises(InvalidOptionError, match=why):
            given_addresses(wrong)


def test_a_client_takes_several() -> None:
    """Of one kind."""

    async def main() -> None:
        async with create_client(["127.0.0.1:1", "127.0.0.1:2"]):
            pass
        with pytest.raises(InvalidOptionError, match="mixes"):
            async with create_client("127.0.0.1:1,http://127.0.0.1:2"):
                raise AssertionError("opened")

    asyncio.run(main())
