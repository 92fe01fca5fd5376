"""The contract of MetadataStore (`metadata/api.py`) as tests.

A test file derives a class from `MetadataStoreSuite` and gives it a fixture ``store``: an empty
store, made outside of an event loop and used on the loop of one test.
"""

import asyncio

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


class MetadataStoreSuite:
    """Every sentence of the contract that can be tested from one process."""

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
            keys = ["a", "a/b", "ab", "ключ", "a\x00", "A", "a" * KEY_BYTES_MAX]
            for key in keys:
                await store.put(key, key.encode(), DoesNotExist())
            await store.delete("a")

            assert await store.get("a") is None
            for key in keys[1:]:
                held = await store.get(key)
                assert held is not None
                assert held.value == key.encode()

        asyncio.run(scenario())

    def test_limits_are_kept(self, store: MetadataStore) -> None:
        async def scenario() -> None:
            largest = bytes(VALUE_BYTES_MAX)
            version = await store.put("largest", largest)
            with pytest.raises(MessageTooLargeError):
                await store.put("largest", largest + b"x")
            with pytest.raises(MessageTooLargeError):
                await store.put("é" * KEY_BYTES_MAX, b"")
            with pytest.raises(AssertionError):
                await store.get("")

            assert await store.get("largest") == VersionedValue(version, largest)

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
