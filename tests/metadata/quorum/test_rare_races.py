"""Races that worlds meet too seldom, step by step; and the broken rules that lose them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import pytest

from perdure.metadata import VersionedValue
from perdure.metadata.quorum import messages as m
from perdure.metadata.quorum.configuration import Configuration
from perdure.metadata.quorum.members import MetadataServers
from perdure.metadata.quorum.registers import Register, encode_register, make_ballot

from .breakages import epochs_not_checked, promises_forgotten_at_start, reads_do_not_settle
from .simulated import Servers, simulate

MINE, OTHER = b"m" * 8, b"o" * 8
Scenario: TypeAlias = Callable[[Servers], Coroutine[Any, Any, None]]


async def a_change_is_given_up(servers: Servers) -> None:
    """All promise, one server accepts, nobody waits for more: the next read decides it for good."""
    await servers.begin()
    first = await servers.store().put("key", b"1")
    await servers.loop.pause(50_000_000)
    ballot = make_ballot(1000, b"p" * 16)
    half_made = Register(first + 1, b"2", (MINE, OTHER))
    for name in servers.names:
        servers.acceptor(name).answer([m.Prepare(1, b"ukey", ballot)])
    servers.acceptor("n3").answer([m.Accept(1, b"ukey", ballot, encode_register(half_made))])
    # The first reader does not meet the server that accepted, the next one meets it first.
    servers.network.cuts["reader", "n3"] = None
    reader = servers.store("reader")
    assert await reader.get("key") == VersionedValue(first, b"1")
    servers.network.cuts.clear()
    servers.stop("n1")

    assert await servers.store("other").get("key") == VersionedValue(first, b"1")
    assert await reader.get("key") == VersionedValue(first, b"1")


async def a_promise_outlives_a_loss_of_power(servers: Servers) -> None:
    """A slow proposer's change comes when a faster one has the promises, and a server restarts."""
    await servers.begin()
    first = await servers.store().put("key", b"1")
    await servers.loop.pause(50_000_000)
    slow, fast = make_ballot(1000, b"s" * 16), make_ballot(1001, b"f" * 16)
    for name in servers.names:
        servers.acceptor(name).answer([m.Prepare(1, b"ukey", slow)])
    for name in ("n2", "n3"):
        servers.acceptor(name).answer([m.Prepare(1, b"ukey", fast)])
    servers.stop("n2")
    servers.disks["n2"] = servers.disks["n2"].after_power_loss()
    await servers.start("n2")
    changes = {
        slow: encode_register(Register(first + 1, b"slow", (MINE, OTHER))),
        fast: encode_register(Register(first + 1, b"fast", (OTHER, OTHER))),
    }
    chosen = [
        value
        for (ballot, value), names in zip(
            changes.items(), (("n1", "n2"), ("n2", "n3")), strict=True
        )
        if [servers.acceptor(name).answer([m.Accept(1, b"ukey", ballot, value)]) for name in names]
        == [[m.Done()], [m.Done()]]
    ]

    # Both knew the same state before: only one of them may come out of it.
    assert chosen == [changes[fast]]


async def an_old_list_is_used(servers: Servers) -> None:
    """All servers were replaced, and a store that slept through it finds the old ones alive."""
    await servers.begin()
    sleeper = servers.store("sleeper")
    await sleeper.put("key", b"1")
    operator = servers.operator()
    for new, old in (("n4", "n1"), ("n5", "n2"), ("n6", "n3")):
        await operator.add(servers.addresses[new])
        await operator.remove(old)
    version = await sleeper.put("key", b"2")

    assert await servers.store("other").get("key") == VersionedValue(version, b"2")


async def few_hold_it_and_leave(servers: Servers) -> None:
    """Two servers of five never hear of a key; those that have it leave one by one."""
    await servers.begin()
    store = servers.store()
    for name in ("n4", "n5"):
        servers.network.cuts["client", name] = None
    version = await store.put("key", b"1")
    servers.network.cuts.clear()
    operator = servers.operator()
    for name in ("n1", "n2"):
        await operator.remove(name)
    servers.stop("n3")

    assert await servers.store("other").get("key") == VersionedValue(version, b"1")


def lists_settle_at_once(patch: pytest.MonkeyPatch) -> None:
    """The next change may begin before everything was chosen again."""

    async def nothing(self: MetadataServers, configuration: Configuration, key: bytes) -> None:
        await asyncio.sleep(0)

    patch.setattr(MetadataServers, "_choose_again", nothing)


RACES: list[tuple[Scenario, Callable[[pytest.MonkeyPatch], Any], int, int]] = [
    (a_change_is_given_up, reads_do_not_settle, 3, 0),
    (a_promise_outlives_a_loss_of_power, promises_forgotten_at_start, 3, 0),
    (an_old_list_is_used, epochs_not_checked, 3, 3),
    (few_hold_it_and_leave, lists_settle_at_once, 5, 0),
]
NAMES = [race[0].__name__ for race in RACES]


@pytest.mark.parametrize(("scenario", "breakage", "count", "spare"), RACES, ids=NAMES)
def test_a_rare_race_is_won(scenario: Scenario, breakage: Any, count: int, spare: int) -> None:
    simulate(scenario, count, spare)


@pytest.mark.parametrize(("scenario", "breakage", "count", "spare"), RACES, ids=NAMES)
def test_a_rare_race_is_lost_without_its_rule(
    scenario: Scenario,
    breakage: Any,
    count: int,
    spare: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breakage(monkeypatch)
    with pytest.raises(AssertionError):
        simulate(scenario, count, spare)
