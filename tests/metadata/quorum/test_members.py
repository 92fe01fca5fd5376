"""How the list of servers begins, is looked at and is changed by one server at a time."""

import asyncio

import pytest

from perdure.metadata import VersionedValue
from perdure.metadata.quorum import (
    MemberChangeError,
    MetadataServers,
    QuorumNotReachedError,
    StrangerError,
)
from perdure.metadata.quorum import members as members_module
from perdure.metadata.quorum import messages as m
from perdure.metadata.quorum.configuration import Configuration, Member, encode_configuration
from perdure.metadata.quorum.members import IN_ORDER, NOT_TOLD
from perdure.metadata.quorum.registers import UNTOUCHED, encode_register, make_ballot

from .lossy import MS
from .simulated import FINGERPRINT, Servers, simulate


async def names_and_states(servers: MetadataServers) -> dict[str, str]:
    """The list as an operator sees it."""
    return {member.name: member.state for member in (await servers.report()).members}


def holds(servers: Servers, name: str, key: bytes, value: bytes) -> bool:
    """Whether a server has accepted a value."""
    return (servers.disks[name].get(b"quorum/a/" + key) or b"").endswith(value)


# Beginning ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_cluster_begins_once(count: int) -> None:
    async def scenario(servers: Servers) -> None:
        await servers.start()
        operators = [servers.operator(f"operator {number}") for number in range(4)]
        results = await asyncio.gather(
            *(
                each.provision(servers.beginners, f"cluster {at}")
                for at, each in enumerate(operators)
            ),
            return_exceptions=True,
        )
        assert results.count(True) == 1
        fingerprints = {servers.acceptor(name).fingerprint for name in servers.names}

        assert fingerprints == {f"cluster {results.index(True)}"}
        assert not await servers.operator("late").provision(servers.beginners, "another")
        report = await servers.operator("reader").report()
        assert (report.epoch, report.agreed, report.settled) == (1, True, True)
        assert len(report.members) == count

    simulate(scenario, count)


def test_beginning_waits_for_all_servers_and_names_who_is_missing() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.start("n1", "n2")
        with pytest.raises(QuorumNotReachedError, match="n3:5122"):
            await servers.operator().provision(servers.beginners, FINGERPRINT)
        await servers.start("n3")

        assert await servers.operator("again").provision(servers.beginners, FINGERPRINT)

    simulate(scenario)


@pytest.mark.parametrize("count", [2, 4])
def test_a_cluster_does_not_begin_with_an_even_number(count: int) -> None:
    async def scenario(servers: Servers) -> None:
        await servers.start()
        with pytest.raises(MemberChangeError, match="1, 3 or 5"):
            await servers.operator().provision(servers.beginners, FINGERPRINT)

    simulate(scenario, count)


def test_a_beginning_that_was_interrupted_is_finished_by_the_next_one() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.start()
        first = servers.operator("first")
        beginning = asyncio.ensure_future(first.provision(servers.beginners, FINGERPRINT))
        while not any(servers.disks[name].get(b"quorum/a/c") is not None for name in servers.names):
            await servers.loop.pause(20_000)
        beginning.cancel()
        await asyncio.wait({beginning})
        await servers.loop.pause(50 * MS)
        await servers.operator("second").provision(servers.beginners, "another")
        fingerprints = {servers.acceptor(name).fingerprint for name in servers.names}

        # What the first one had got accepted is what the second one finished.
        assert fingerprints == {FINGERPRINT}

    simulate(scenario)


def test_a_beginning_with_other_servers_is_not_mixed_with_this_one() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.start()
        listed = [
            Member(servers.acceptor(name).server_id, name, servers.addresses[name])
            for name in ("n1", "n2", "n3")
        ]
        members = tuple(sorted(listed, key=lambda member: member.id))
        first = UNTOUCHED.changed(
            encode_configuration(Configuration(1, FINGERPRINT, members)), b"n" * 8
        )
        ballot = make_ballot(1, b"p" * 16)
        # An operator with other servers in mind left this behind, on n1 and where it may be found.
        for name in ("n1", "n4", "n5"):
            servers.acceptor(name).answer([m.Accept(0, b"c", ballot, encode_register(first))])
        others = [servers.addresses[name] for name in ("n1", "n4", "n5")]
        with pytest.raises(MemberChangeError, match="n2 at n2:5122"):
            await servers.operator("second").provision(others, FINGERPRINT)
        assert all(servers.acceptor(name).configuration is None for name in servers.names)
        await servers.operator("third").provision(servers.beginners, FINGERPRINT)

        assert sorted(await names_and_states(servers.operator("reader"))) == ["n1", "n2", "n3"]

    simulate(scenario, 3, 2)


# Looking -----------------------------------------------------------------------------------------


def test_the_list_shows_what_is_wrong_with_each_server() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        await servers.store().put("key", b"1")
        await servers.loop.pause(50 * MS)
        operator = servers.operator()
        report = await operator.report()
        assert {member.registers for member in report.members} == {2}
        assert {member.state for member in report.members} <= {IN_ORDER, NOT_TOLD}
        await servers.wipe("n2")
        servers.stop("n1")
        await servers.start("n1")
        states = await names_and_states(operator)
        assert states["n1"] in (IN_ORDER, NOT_TOLD)
        assert "lost its storage" in states["n2"]
        servers.disks["n3"].fail_next_sync()
        report = await operator.report()

        # Two of three are of no use: that is when the list is needed most.
        assert not report.agreed
        states = {member.name: member.state for member in report.members}
        assert states["n1"] in (IN_ORDER, NOT_TOLD)
        assert "mend the disk" in states["n3"]

    simulate(scenario)


# Changing ----------------------------------------------------------------------------------------


def test_a_server_is_added_with_everything_that_there_is() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        for number in range(50):
            await store.put(f"key {number}", b"%d" % number)
        await store.delete("key 7")
        await servers.operator().add(servers.addresses["n4"])

        assert await names_and_states(servers.operator("reader")) == dict.fromkeys(
            ("n1", "n2", "n3", "n4"), IN_ORDER
        )
        assert (await servers.operator("reader 2").report()).epoch == 2
        for number in range(50):
            value = b"" if number == 7 else b"%d" % number
            assert holds(servers, "n4", b"ukey %d" % number, value)
        # To add it again changes nothing.
        await servers.operator("again").add(servers.addresses["n4"])
        assert (await servers.operator("reader 3").report()).epoch == 2
        servers.stop("n1")
        assert await store.get("key 7") is None
        assert await store.get("key 8") is not None

    simulate(scenario, 3, 1)


def test_every_server_is_replaced_and_nothing_is_lost() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        versions = {key: await store.put(key, key.encode()) for key in ("a", "b")}
        operator = servers.operator()
        for old, new in (("n1", "n4"), ("n2", "n5"), ("n3", "n6")):
            await operator.add(servers.addresses[new])
            await operator.remove(old)
            servers.stop(old)

        for each in (store, servers.store("new")):
            for key, version in versions.items():
                assert await each.get(key) == VersionedValue(version, key.encode())
        assert sorted(await names_and_states(operator)) == ["n4", "n5", "n6"]

    simulate(scenario, 3, 3)


def test_a_server_that_lost_its_storage_counts_for_nothing_until_it_is_added_anew() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        servers.network.cuts["client", "n2"] = None
        version = await store.put("key", b"1")
        servers.network.cuts.clear()
        assert not holds(servers, "n2", b"ukey", b"1")
        servers.stop("n3")
        await servers.wipe("n1")

        # n2 never had the key, and n1 does not have it any more: no quorum, and no wrong answer.
        for call in (store.get, servers.store("other").get):
            with pytest.raises(QuorumNotReachedError, match="lost its storage"):
                await call("key")
        await servers.start("n3")
        assert await store.get("key") == VersionedValue(version, b"1")
        operator = servers.operator()
        with pytest.raises(MemberChangeError, match="remove it first"):
            await operator.add(servers.addresses["n1"])
        await operator.remove("n1")
        await operator.add(servers.addresses["n1"])
        servers.stop("n3")
        assert await store.get("key") == VersionedValue(version, b"1")

    simulate(scenario)


def test_a_removed_server_is_refused_and_comes_back_only_as_a_new_one() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        await servers.store().put("key", b"1")
        operator = servers.operator()
        await operator.remove("n3")
        await servers.loop.pause(50 * MS)
        acceptor = servers.acceptor("n3")

        (reply,) = acceptor.answer([m.Read(2, b"ukey")])
        assert reply == m.Failed("it was removed from the list of servers")
        with pytest.raises(MemberChangeError, match="clear its metadata directory"):
            await operator.add(servers.addresses["n3"])
        await servers.wipe("n3")
        await operator.add(servers.addresses["n3"])
        assert sorted(await names_and_states(operator)) == ["n1", "n2", "n3"]

    simulate(scenario)


def test_a_store_with_an_old_list_finds_the_new_one() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        await store.put("key", b"1")
        operator = servers.operator()
        for name in ("n4", "n5"):
            await operator.add(servers.addresses[name])
        for name in ("n1", "n2"):
            await operator.remove(name)

        # The old servers are still there, and each tells or refuses.
        assert store._proposer.configuration is not None
        assert store._proposer.configuration.epoch == 1
        held = await store.get("key")
        assert held is not None
        assert held.value == b"1"
        assert store._proposer.configuration.epoch == 5

    simulate(scenario, 3, 2)


def test_removals_that_would_leave_too_few_are_refused() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        operator = servers.operator()
        servers.stop("n3")
        with pytest.raises(MemberChangeError, match="n3 is not"):
            await operator.remove("n1")
        with pytest.raises(MemberChangeError, match="n1, n2, n3"):
            await operator.remove("n9")
        await operator.remove("n3")
        await operator.remove("n2")
        with pytest.raises(MemberChangeError, match="last"):
            await operator.remove("n1")

        assert sorted(await names_and_states(operator)) == ["n1"]
        assert await servers.store().put("key", b"1")

    simulate(scenario)


@pytest.mark.parametrize("after", [1, 5, 10, 15, 20, 30, 45])
@pytest.mark.parametrize("change", ["add", "remove"])
def test_a_change_that_was_interrupted_anywhere_is_finished_by_the_next_one(
    change: str, after: int
) -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        store = servers.store()
        for number in range(12):
            await store.put(f"key {number}", b"%d" % number)

        async def work(operator: MetadataServers) -> None:
            if change == "add":
                await operator.add(servers.addresses["n4"])
            else:
                await operator.remove("n1")

        first = asyncio.ensure_future(work(servers.operator("first")))
        await asyncio.wait({first}, timeout=after / 1000)
        first.cancel()
        await asyncio.wait({first})
        second = servers.operator("second")
        await second.settle()
        expected = ["n1", "n2", "n3", "n4"] if change == "add" else ["n2", "n3"]
        if sorted(await names_and_states(second)) != expected:
            await work(second)
        report = await second.report()

        assert report.settled
        assert sorted(member.name for member in report.members) == expected
        assert report.epoch == 2
        for number in range(12):
            held = await store.get(f"key {number}")
            assert held is not None
            assert held.value == b"%d" % number

    simulate(scenario, 3, 1)


def test_the_next_change_waits_until_the_one_before_is_settled() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        await servers.store().put("key", b"1")
        operators = [servers.operator(f"operator {number}") for number in range(3)]
        results = await asyncio.gather(
            operators[0].add(servers.addresses["n4"]),
            operators[1].add(servers.addresses["n5"]),
            operators[2].remove("n1"),
            return_exceptions=True,
        )
        report = await servers.operator("reader").report()
        made = results.count(None)

        assert all(result is None or isinstance(result, MemberChangeError) for result in results)
        assert made >= 1
        assert report.settled
        # Each change is an epoch of its own.
        assert report.epoch == 1 + made

    simulate(scenario, 3, 2)


def test_the_list_has_a_largest_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members_module, "SERVERS_MAX", 3)

    async def scenario(servers: Servers) -> None:
        await servers.begin()
        with pytest.raises(MemberChangeError, match="3 servers already"):
            await servers.operator().add(servers.addresses["n4"])

    simulate(scenario, 3, 1)


def test_a_server_of_another_cluster_is_not_added() -> None:
    async def scenario(servers: Servers) -> None:
        await servers.begin()
        other = servers.operator("other")
        assert await other.provision([servers.addresses["n4"]], "another cluster")
        # Who does not say of which cluster it is takes the first that answers.
        operator = MetadataServers(servers.proposer("operator", fingerprint=FINGERPRINT))
        with pytest.raises((StrangerError, QuorumNotReachedError), match="another cluster"):
            await operator.add(servers.addresses["n4"])

    simulate(scenario, 3, 1)
