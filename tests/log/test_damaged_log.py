"""Damage on the local loglet's disk is reported with its place and never returned."""

import asyncio
from collections.abc import Iterator

import pytest

from perdure.core.errors import StorageCorruptError, StorageFormatError
from perdure.core.ids import LogId
from perdure.core.storage.memory import MemoryStore
from perdure.log.batch_codec import batch_key
from perdure.log.chain import loglet_id
from perdure.log.errors import CorruptBatchError
from perdure.log.local.loglet import LocalLoglet
from perdure.log.log_store import SEALED, TRIMMED

from .support import LogOnStore, group, numbers, read_all
from .test_batch_codec import as_format

LOGLET = loglet_id(LogId(0), 1)
ENDS = (2, 5, 6)
"""Where the batches end that `content` holds."""


def key_of(last_offset: int) -> bytes:
    return b"d" + batch_key(LOGLET, last_offset)


def mark_key(name: bytes) -> bytes:
    return b"k" + LOGLET.to_bytes(8, "big") + name


async def content(*, sealed: bool = False, trim: int = 0) -> dict[bytes, bytes]:
    """What is on the disk after three batches."""
    store = MemoryStore()
    log = LogOnStore(store)
    loglet = log.loglet()
    first = 1
    for last in ENDS:
        loglet.enqueue(group(first, last - first + 1))
        await loglet.wait_for_tail(last)
        first = last + 1
    if sealed:
        await loglet.seal()
    await loglet.trim(trim)
    log.writer.close()
    return dict(store.scan(b"", b"\xff" * 20))


async def read_to_the_damage(loglet: LocalLoglet) -> tuple[int, CorruptBatchError | None]:
    """The offset up to which all was well, and what was wrong then."""
    offset = 1
    try:
        while batches := await loglet.read(offset, 1):
            assert numbers(batches) == list(range(offset, batches[-1].last_offset + 1))
            offset = batches[-1].last_offset + 1
    except CorruptBatchError as error:
        return offset, error
    return offset, None


def flipped(data: bytes) -> Iterator[bytes]:
    """The data with each of its bits flipped, one at a time."""
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            yield bytes(damaged)


def values_flipped(data: dict[bytes, bytes], last: int) -> Iterator[dict[bytes, bytes]]:
    key = key_of(last)
    for value in flipped(data[key]):
        yield {**data, key: value}


def keys_flipped(data: dict[bytes, bytes], last: int) -> Iterator[dict[bytes, bytes]]:
    key = key_of(last)
    rest = {item: value for item, value in data.items() if item != key}
    for other in flipped(key):
        yield {**rest, other: data[key]}


@pytest.mark.parametrize("last", ENDS)
def test_flipped_bit_is_reported_to_who_reads(last: int) -> None:
    async def scenario() -> None:
        good = await content()
        cases = 0
        for damaged in (*values_flipped(good, last), *keys_flipped(good, last)):
            store = MemoryStore(good)
            log = LogOnStore(store)
            loglet = log.loglet()
            # The disk changes under the open loglet.
            store.write([(key, None) for key in good])
            store.write(list(damaged.items()))
            offset, error = await read_to_the_damage(loglet)

            assert error is not None
            assert error.loglet == LOGLET
            assert error.last_offset >= offset
            assert f"loglet {LOGLET}" in str(error)
            assert offset <= last
            cases += 1
            log.writer.close()
        assert cases == 8 * (len(key_of(last)) + len(good[key_of(last)]))

    asyncio.run(scenario())


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("last", ENDS)
def test_flipped_bit_is_not_returned_after_a_restart(last: int, sealed: bool) -> None:
    async def scenario() -> None:
        good = await content(sealed=sealed)
        unnoticed = 0
        for damaged in (*values_flipped(good, last), *keys_flipped(good, last)):
            log = LogOnStore(MemoryStore(damaged))
            try:
                _, error = await read_to_the_damage(log.loglet())
            except CorruptBatchError as found:
                error = found
            unnoticed += error is None
            log.writer.close()
        # A last batch that is found nowhere looks like one that was never written, if the loglet
        # is open; anything else is noticed.
        assert (unnoticed > 0) == (last == ENDS[-1] and not sealed)

    asyncio.run(scenario())


@pytest.mark.parametrize("last", ENDS)
def test_missing_batch_is_reported(last: int) -> None:
    async def scenario() -> None:
        store = MemoryStore(await content())
        log = LogOnStore(store)
        loglet = log.loglet()
        store.write([(key_of(last), None)])
        with pytest.raises(CorruptBatchError, match=r"offsets (before \d|from \d on) are missing"):
            await loglet.read(1, 1 << 20)
        with pytest.raises(CorruptBatchError):
            await loglet.read(last, 1)
        with pytest.raises(CorruptBatchError):
            await read_all(loglet)
        log.writer.close()

    asyncio.run(scenario())


def test_sealed_loglet_without_its_last_batch_is_not_opened() -> None:
    async def scenario() -> None:
        store = MemoryStore(await content(sealed=True))
        store.write([(key_of(6), None)])
        log = LogOnStore(store)
        with pytest.raises(CorruptBatchError, match="sealed at offset 7 and ends at 6"):
            log.loglet()
        log.writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("last", ENDS)
def test_newer_format_is_told_from_damage(last: int) -> None:
    async def scenario() -> None:
        store = MemoryStore(await content())
        log = LogOnStore(store)
        loglet = log.loglet()
        key = key_of(last)
        value = store.get(key)
        assert value is not None
        store.write([(key, as_format(9, key[1:], value))])
        with pytest.raises(StorageFormatError, match="format 9"):
            await loglet.read(last, 1)
        log.writer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("name", [SEALED, TRIMMED])
def test_damaged_mark_is_reported(name: bytes) -> None:
    async def scenario() -> None:
        good = await content(sealed=True, trim=2)
        key = mark_key(name)
        value = good[key]
        damaged = [*flipped(value), *(value[:size] for size in range(len(value))), value + b"\0"]
        for item in damaged:
            log = LogOnStore(MemoryStore({**good, key: item}))
            with pytest.raises(
                StorageCorruptError, match=f"loglet {LOGLET}: mark '{name.decode()}'"
            ):
                log.loglet()
            log.writer.close()

    asyncio.run(scenario())


def test_mark_of_another_loglet_is_not_taken() -> None:
    async def scenario() -> None:
        good = await content(sealed=True)
        other = loglet_id(LogId(1), 1).to_bytes(8, "big")
        store = MemoryStore({**good, b"k" + other + SEALED: good[mark_key(SEALED)]})
        log = LogOnStore(store)
        with pytest.raises(StorageCorruptError, match="checksum"):
            log.loglet(log=1)
        assert log.loglet().committed_tail == 7
        log.writer.close()

    asyncio.run(scenario())


def test_trimming_at_a_damaged_batch_says_so_and_beyond_it_works() -> None:
    async def scenario() -> None:
        store = MemoryStore(await content())
        log = LogOnStore(store)
        loglet = log.loglet()
        value = store.get(key_of(5))
        assert value is not None
        store.write([(key_of(5), value[:-1] + bytes((value[-1] ^ 1,)))])
        with pytest.raises(CorruptBatchError):
            await loglet.trim(4)
        assert loglet.trim_point == 0
        assert await loglet.trim(6) == 6
        assert await read_all(loglet) == []
        log.writer.close()

    asyncio.run(scenario())
