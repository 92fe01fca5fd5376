"""The contract of MetadataStore (`metadata/api.py`) as tests.

A test file derives a class from `MetadataStoreSuite` and gives it a fixture ``host``: what an empty
store runs on. The store is opened outside of an event loop and used on the loop of one test.
"""

import asyncio
import random
from typing import ClassVar

import pytest

from perdure.core.errors import MessageTooLargeError
from perdure.metadata import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    DoesNotExist,
    MatchesVersion,
    MetadataStore,
    PreconditionFailedError,
    Version,
    VersionedValue,
    read_modify_write,
)

from ..metadata.history import Host, record_and_check

STRANGE_KEYS = [
    " ",
    "\x00",
    "\x00\x00",
    "%",
    "*",
    "..",
    "/",
    "//",
    "A",
    "\\",
    "\n",
    "a",
    "a\x00",
    "a/b",
    "ab",
    "e\u0301",
    "metadata/a",
    "é",
    "ключ",
    "\u2028",
    "\uffff",
    "😀",
    "\U0010ffff",
    "a" * KEY_BYTES_MAX,
    "😀" * (KEY_BYTES_MAX // 4),
]


class MetadataStoreSuite:
    """Every sentence of the contract that can be tested from one process."""

    histories: ClassVar[range] = range(200)
    """Seeds of the recorded histories."""

    @pytest.fixture
    def store(self, host: Host) -> MetadataStore:
        """An empty store."""
        return host.open()

    def test_missing_key_is_none(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            assert await store.get("nobody") is None

        asyncio.run(scenario())

    def test_put_is_read_back_with_its_version(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            version = await store.put("key", b"value")
            other = await store.put("other", b"")

            assert await store.get("key") == VersionedValue(version, b"value")
            assert await store.get("other") == VersionedValue(other, b"")

        asyncio.run(scenario())

    def test_versions_increase_with_every_put(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            versions = [await store.put("key", b"same") for _ in range(20)]

            assert sorted(set(versions)) == versions

        asyncio.run(scenario())

    def test_versions_increase_over_delete_and_put(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            first = await store.put("key", b"1")
            await store.delete("key")
            assert await store.get("key") is None
            second = await store.put("key", b"2", DoesNotExist())

            assert second > first
            # A holder of the first version is not fooled by the second value.
            with pytest.raises(PreconditionFailedError):
                await store.put("key", b"3", MatchesVersion(first))

        asyncio.run(scenario())

    def test_put_where_nothing_is_expected(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            version = await store.put("key", b"1", DoesNotExist())
            with pytest.raises(PreconditionFailedError) as failed:
                await store.put("key", b"2", DoesNotExist())

            assert failed.value.key == "key"
            assert failed.value.expected == DoesNotExist()
            assert failed.value.actual == version
            assert failed.value.code == "PD0601"
            assert await store.get("key") == VersionedValue(version, b"1")

        asyncio.run(scenario())

    def test_put_where_a_version_is_expected(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            first = await store.put("key", b"1")
            second = await store.put("key", b"2", MatchesVersion(first))
            with pytest.raises(PreconditionFailedError) as failed:
                await store.put("key", b"3", MatchesVersion(first))

            assert failed.value.expected == MatchesVersion(first)
            assert failed.value.actual == second
            assert await store.get("key") == VersionedValue(second, b"2")

        asyncio.run(scenario())

    def test_put_where_a_version_of_a_missing_key_is_expected(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            with pytest.raises(PreconditionFailedError) as never:
                await store.put("key", b"1", MatchesVersion(Version(1)))
            version = await store.put("key", b"1")
            await store.delete("key")
            with pytest.raises(PreconditionFailedError) as deleted:
                await store.put("key", b"2", MatchesVersion(version))

            assert never.value.actual is None
            assert deleted.value.actual is None
            assert await store.get("key") is None

        asyncio.run(scenario())

    def test_delete_follows_its_precondition(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            await store.delete("key")
            await store.delete("key", DoesNotExist())
            with pytest.raises(PreconditionFailedError):
                await store.delete("key", MatchesVersion(Version(1)))
            first = await store.put("key", b"1")
            second = await store.put("key", b"2")
            with pytest.raises(PreconditionFailedError):
                await store.delete("key", MatchesVersion(first))
            with pytest.raises(PreconditionFailedError):
                await store.delete("key", DoesNotExist())
            assert await store.get("key") == VersionedValue(second, b"2")
            await store.delete("key", MatchesVersion(second))

            assert await store.get("key") is None

        asyncio.run(scenario())

    def test_keys_are_independent(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            for key in STRANGE_KEYS:
                await store.put(key, key.encode(), DoesNotExist())
            await store.delete("a")

            assert await store.get("a") is None
            for key in STRANGE_KEYS:
                held = await store.get(key)
                assert (held.value if held else None) == (None if key == "a" else key.encode())

        asyncio.run(scenario())

    def test_limits_are_kept(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            largest = bytes(VALUE_BYTES_MAX)
            version = await store.put("largest", largest)
            with pytest.raises(MessageTooLargeError):
                await store.put("largest", largest + b"x")
            for key in ("é" * (KEY_BYTES_MAX // 2) + "x", "a" * (KEY_BYTES_MAX + 1)):
                with pytest.raises(MessageTooLargeError):
                    await store.put(key, b"")
                with pytest.raises(MessageTooLargeError):
                    await store.get(key)
                with pytest.raises(MessageTooLargeError):
                    await store.delete(key)

            assert await store.get("largest") == VersionedValue(version, largest)
            assert await store.keys("") == ["largest"]

        asyncio.run(scenario())

    def test_of_many_who_expect_the_same_one_wins(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            version = await store.put("key", b"start")

            async def attempt(number: int) -> bool:
                try:
                    await store.put("key", b"%d" % number, MatchesVersion(version))
                except PreconditionFailedError:
                    return False
                return True

            outcomes = await asyncio.gather(*(attempt(number) for number in range(20)))
            held = await store.get("key")

            assert outcomes.count(True) == 1
            assert held is not None
            assert held.value == b"%d" % outcomes.index(True)

        asyncio.run(scenario())

    def test_concurrent_changes_are_all_counted(self, store: MetadataStore) -> None:
        def increment(current: VersionedValue | None) -> bytes:
            return b"%d" % (int(current.value) + 1 if current else 1)

        async def scenario() -> None:
            async def add() -> None:
                for _ in range(10):
                    await read_modify_write(store, "counter", increment, conflicts_max=200)

            await asyncio.gather(*(add() for _ in range(5)))
            held = await store.get("counter")

            assert held is not None
            assert held.value == b"50"

        asyncio.run(scenario())

    @pytest.mark.parametrize("key", ["", "\ud800", "a\udcff"])
    def test_a_key_that_is_no_text_is_a_bug(self, store: MetadataStore, key: str) -> None:
        async def scenario() -> None:
            with pytest.raises(AssertionError):
                await store.get(key)
            with pytest.raises(AssertionError):
                await store.put(key, b"")
            with pytest.raises(AssertionError):
                await store.delete(key)
            if key:
                with pytest.raises(AssertionError):
                    await store.keys(key)

            assert await store.keys("") == []

        asyncio.run(scenario())

    @pytest.mark.parametrize("expects_a_version", [False, True])
    def test_of_many_identical_puts_one_wins(
        self, store: MetadataStore, expects_a_version: bool
    ) -> None:
        async def scenario() -> None:
            precondition: DoesNotExist | MatchesVersion = DoesNotExist()
            if expects_a_version:
                precondition = MatchesVersion(await store.put("key", b"same"))

            async def attempt() -> Version | None:
                try:
                    return await store.put("key", b"same", precondition)
                except PreconditionFailedError:
                    return None

            outcomes = await asyncio.gather(*(attempt() for _ in range(20)))
            won = [version for version in outcomes if version is not None]

            assert len(won) == 1
            assert await store.get("key") == VersionedValue(won[0], b"same")

        asyncio.run(scenario())

    def test_no_version_comes_back_however_often_a_key_is_made_anew(
        self, store: MetadataStore
    ) -> None:
        async def scenario() -> None:
            versions: list[Version] = []
            for _ in range(5):
                versions.append(await store.put("key", b"same", DoesNotExist()))
                versions.append(await store.put("key", b"same"))
                await store.delete("key", MatchesVersion(versions[-1]))
                await store.delete("key")

            assert sorted(set(versions)) == versions

        asyncio.run(scenario())

    def test_what_returned_is_there_after_a_crash(self, host: Host) -> None:
        async def scenario() -> None:
            draw = random.Random(1)
            store = host.open()
            kept = await store.put("kept", b"1")
            gone = await store.put("gone", b"2")
            await store.delete("gone")
            host.crash(draw)
            store = host.open()

            assert await store.get("kept") == VersionedValue(kept, b"1")
            assert await store.get("gone") is None
            assert await store.keys("") == ["kept"]
            # The versions of the deleted key went on, too.
            assert await store.put("gone", b"3") > gone

        asyncio.run(scenario())

    def test_keys_with_a_value_are_listed_in_order(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            assert await store.keys("") == []
            for key in ("b/2", "b/10", "b", "c", "a", "b0", "b/", "B/1"):
                await store.put(key, b"")
            await store.delete("b/10")
            await store.delete("never")

            assert await store.keys("") == ["B/1", "a", "b", "b/", "b/2", "b0", "c"]
            assert await store.keys("b/") == ["b/", "b/2"]
            assert await store.keys("b/10") == []
            assert await store.keys("d") == []
            await store.put("b/10", b"")
            assert await store.keys("b/") == ["b/", "b/10", "b/2"]

        asyncio.run(scenario())

    def test_a_prefix_is_compared_by_its_characters(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            for key in STRANGE_KEYS:
                await store.put(key, b"")
            for prefix in ("", "a" * (KEY_BYTES_MAX + 1), *STRANGE_KEYS):
                found = await store.keys(prefix)

                assert found == sorted(key for key in STRANGE_KEYS if key.startswith(prefix))

        asyncio.run(scenario())

    def test_recorded_histories_are_linearizable(self, host: Host) -> None:
        counts = record_and_check(host, self.histories)

        # Each kind of answer came often enough to have said something.
        for answer in (
            "Get Found",
            "Get Missing",
            "Look Listed",
            "Put Stored",
            "Put Refused",
            "Put unknown",
            "Delete Deleted",
            "Delete Refused",
            "Delete unknown",
        ):
            assert counts[answer] > len(self.histories) // 2, counts
        assert counts["crash"] > len(self.histories), counts
