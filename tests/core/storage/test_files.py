"""Every adapter of the Files port keeps the contract; what a lock and a crash do."""

import threading
from pathlib import Path

import pytest

from perdure.core.storage.files import Files, SystemFiles
from perdure.testing.simulation.files import SimulationFiles

from ...conformance.files import FilesSuite


class TestSystemFiles(FilesSuite):
    """The operating system's."""

    @pytest.fixture
    def files(self) -> Files:
        """The adapter."""
        return SystemFiles()

    @pytest.fixture
    def root(self, tmp_path: Path) -> str:
        """A directory of this test."""
        return str(tmp_path / "root")

    def test_a_lock_keeps_others_out(self, files: Files, root: str) -> None:
        files.make_directory(root)
        events: list[str] = []
        inside = threading.Event()

        def other() -> None:
            inside.wait()
            with files.lock(f"{root}/lock"):
                events.append("other")

        thread = threading.Thread(target=other)
        thread.start()
        with files.lock(f"{root}/lock"):
            inside.set()
            thread.join(0.05)
            events.append("first")
        thread.join()

        assert events == ["first", "other"]


class TestSimulationFiles(FilesSuite):
    """The simulator's."""

    @pytest.fixture
    def files(self) -> Files:
        """The adapter."""
        return SimulationFiles()

    @pytest.fixture
    def root(self) -> str:
        """Any path."""
        return "/root"


def test_a_crash_takes_bytes_and_names_that_were_not_synced() -> None:
    files = SimulationFiles()
    files.make_directory("/d")
    for name in ("both", "bytes", "name"):
        file = files.create(f"/d/{name}")
        file.write(b"1234")
        if name != "name":
            file.sync()
        if name == "both":
            files.sync_directory("/d")
    assert files.crash().paths() == ["/d/both"]
    files.sync_directory("/d")
    files.rename("/d/both", "/d/moved")
    survivor = files.crash()

    assert survivor.paths() == ["/d/both", "/d/bytes", "/d/name"]
    assert survivor.read("/d/both", 0, 9) == survivor.read("/d/bytes", 0, 9) == b"1234"
    assert survivor.read("/d/name", 0, 9) == b""
