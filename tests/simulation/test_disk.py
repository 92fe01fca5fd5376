"""The simulated disk: the KvStore contract, and what breaks on demand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from perdure.core.errors import StorageError
from perdure.core.storage.kv import KvStore
from perdure.testing.simulation import SimulationLoop
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.disk import PowerLoss, SimulationDisk, SimulationSyncRunner
from perdure.testing.simulation.trace import Trace

from ..conformance.kv_store import KvStoreSuite


def new_disk(seed: int = 1, sync_delay_ns_max: int = 0) -> SimulationDisk:
    return SimulationDisk(
        "log",
        trace=Trace(SimulationLoop()),
        chance=Chance(seed, "disk"),
        sync_delay_ns_max=sync_delay_ns_max,
    )


class DiskHarness:
    """Opens what the last disk left, as a new process on the same machine does."""

    def __init__(self) -> None:
        self.disk: SimulationDisk | None = None

    def open(self) -> KvStore:
        self.disk = new_disk() if self.disk is None else self.disk.after_restart()
        return self.disk

    @contextmanager
    def failing_writes(self, store: KvStore) -> Iterator[None]:
        assert isinstance(store, SimulationDisk)
        store.fail_next_write()
        yield

    def close(self) -> None:
        """Nothing is left open."""


class TestSimulationDisk(KvStoreSuite):
    @pytest.fixture
    def harness(self) -> DiskHarness:
        return DiskHarness()


def write_ten(disk: SimulationDisk) -> None:
    for number in range(10):
        disk.write([(b"%d" % number, b"value")])


def test_a_power_loss_takes_a_suffix_of_unsynced_writes() -> None:
    left = set()
    for seed in range(60):
        disk = new_disk(seed)
        disk.write([(b"synced", b"1")])
        disk.sync()
        write_ten(disk)
        survivor = disk.after_power_loss()
        rows = sorted(survivor.rows())
        assert rows == [*(b"%d" % number for number in range(len(rows) - 1)), b"synced"]
        left.add(len(rows) - 1)

    assert left == set(range(11))


def test_a_restart_loses_nothing_and_leaves_unsynced_writes_at_risk() -> None:
    disk = new_disk()
    write_ten(disk)

    restarted = disk.after_restart()

    assert len(restarted.rows()) == 10
    assert restarted.unsynced_writes == 10
    with pytest.raises(StorageError):
        disk.write([(b"late", b"1")])


@pytest.mark.parametrize(("where", "unsynced"), [(PowerLoss.BEFORE, 2), (PowerLoss.AFTER, 0)])
def test_power_fails_before_or_after_an_operation(where: PowerLoss, unsynced: int) -> None:
    disk = new_disk()
    lost: list[str] = []
    disk.lose_power_at(2, where, lambda: lost.append("power"))
    disk.write([(b"1", b"")])
    disk.write([(b"2", b"")])

    with pytest.raises(StorageError, match="power"):
        disk.sync()

    assert lost == ["power"]
    assert disk.unsynced_writes == unsynced
    assert disk.faulty
    with pytest.raises(StorageError):
        disk.write([(b"3", b"")])


def test_a_healed_disk_forgets_what_has_not_happened() -> None:
    disk = new_disk()
    disk.fail_next_sync()
    disk.fail_next_write()
    disk.lose_power_at(0, PowerLoss.BEFORE, lambda: None)

    disk.heal()
    disk.write([(b"1", b"")])
    disk.sync()

    assert not disk.faulty


def test_a_failed_disk_stays_so_until_it_is_opened_again() -> None:
    disk = new_disk()
    disk.fail_next_sync()
    with pytest.raises(StorageError):
        disk.sync()

    disk.heal()

    assert disk.faulty
    with pytest.raises(StorageError):
        disk.write([(b"1", b"")])
    disk.after_restart().write([(b"1", b"")])


def test_rot_flips_one_bit_of_one_value() -> None:
    disk = new_disk()
    disk.write([(b"d1", b"abc"), (b"d2", b"def"), (b"e", b"ghi")])
    before = disk.rows()

    key = disk.rot(b"d")

    assert key in (b"d1", b"d2")
    after = disk.rows()
    assert [name for name in before if before[name] != after[name]] == [key]
    change = int.from_bytes(before[key], "big") ^ int.from_bytes(after[key], "big")
    assert change.bit_count() == 1


def test_rot_finds_nothing_where_nothing_is() -> None:
    assert new_disk().rot(b"d") is None


@pytest.fixture
def slow_sync() -> tuple[SimulationLoop, SimulationDisk, SimulationSyncRunner]:
    loop = SimulationLoop()
    disk = new_disk(sync_delay_ns_max=10_000_000)
    return loop, disk, SimulationSyncRunner(loop, disk)


def sync_of(disk: SimulationDisk) -> Callable[[], int]:
    def sync() -> int:
        disk.sync()
        return 7

    return sync


def test_a_sync_behind_the_loop_takes_virtual_time(
    slow_sync: tuple[SimulationLoop, SimulationDisk, SimulationSyncRunner],
) -> None:
    loop, disk, runner = slow_sync
    told: list[object] = []
    disk.write([(b"1", b"")])

    runner.run(sync_of(disk), told.append)
    assert told == []
    loop.run_until_complete(loop.pause(20_000_000))

    assert told == [7]
    assert disk.unsynced_writes == 0


def test_a_failing_sync_behind_the_loop_is_told(
    slow_sync: tuple[SimulationLoop, SimulationDisk, SimulationSyncRunner],
) -> None:
    loop, disk, runner = slow_sync
    told: list[object] = []
    disk.fail_next_sync()

    runner.run(sync_of(disk), told.append)
    loop.run_until_complete(loop.pause(20_000_000))

    assert [type(item) for item in told] == [StorageError]


def test_a_closed_runner_tells_nothing_more(
    slow_sync: tuple[SimulationLoop, SimulationDisk, SimulationSyncRunner],
) -> None:
    loop, disk, runner = slow_sync
    told: list[object] = []

    runner.run(sync_of(disk), told.append)
    runner.close()
    loop.run_until_complete(loop.pause(20_000_000))

    assert told == []
