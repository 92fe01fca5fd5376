"""What every adapter of the Files port must do; subclass `FilesSuite` and give it files."""

import pytest

from perdure.core.errors import StorageError
from perdure.core.storage.files import Files


class FilesSuite:
    """The contract of `core.storage.files.Files`, but for what a crash leaves."""

    @pytest.fixture
    def files(self) -> Files:
        """The adapter."""
        raise NotImplementedError

    @pytest.fixture
    def root(self) -> str:
        """A directory that may be written to and need not exist."""
        raise NotImplementedError

    def write(self, files: Files, path: str, data: bytes) -> None:
        """A whole file."""
        file = files.create(path)
        file.write(data)
        file.sync()
        file.close()
        file.close()

    def test_what_was_written_is_read(self, files: Files, root: str) -> None:
        files.make_directory(f"{root}/a/b")
        files.make_directory(f"{root}/a/b")
        self.write(files, f"{root}/a/b/file", b"0123456789")

        assert files.read(f"{root}/a/b/file", 0, 100) == b"0123456789"
        assert files.read(f"{root}/a/b/file", 3, 4) == b"3456"
        assert files.read(f"{root}/a/b/file", 8, 4) == b"89"
        assert files.read(f"{root}/a/b/file", 20, 4) == b""
        assert files.read(f"{root}/a/b/other", 0, 4) is None
        assert files.read(f"{root}/nothing/other", 0, 4) is None

    def test_a_file_that_exists_is_begun_anew(self, files: Files, root: str) -> None:
        files.make_directory(root)
        self.write(files, f"{root}/file", b"0123456789")
        self.write(files, f"{root}/file", b"abc")

        assert files.read(f"{root}/file", 0, 100) == b"abc"

    def test_names_are_sorted_and_none_where_nothing_is(self, files: Files, root: str) -> None:
        assert files.names(root) == []
        files.make_directory(f"{root}/c")
        for name in "bad":
            self.write(files, f"{root}/{name}", b"")
        files.sync_directory(root)

        assert files.names(root) == ["a", "b", "c", "d"]

    def test_a_rename_takes_the_place_of_what_has_the_name(self, files: Files, root: str) -> None:
        files.make_directory(root)
        self.write(files, f"{root}/old", b"1")
        self.write(files, f"{root}/new", b"2")
        files.rename(f"{root}/new", f"{root}/old")

        assert files.names(root) == ["old"]
        assert files.read(f"{root}/old", 0, 9) == b"2"
        with pytest.raises(StorageError, match=root):
            files.rename(f"{root}/new", f"{root}/old")

    def test_what_is_not_there_may_be_removed(self, files: Files, root: str) -> None:
        files.make_directory(f"{root}/folder")
        self.write(files, f"{root}/folder/file", b"1")
        with pytest.raises(StorageError, match=f"{root}/folder"):
            files.remove(f"{root}/folder")
        for path in ("folder/file", "folder/file", "folder", "folder", "nothing/at/all"):
            files.remove(f"{root}/{path}")

        assert files.names(root) == []

    def test_a_failure_names_the_path(self, files: Files, root: str) -> None:
        with pytest.raises(StorageError, match=f"{root}/nowhere/file"):
            files.create(f"{root}/nowhere/file")
        with pytest.raises(StorageError, match=f"{root}/nowhere"):
            files.sync_directory(f"{root}/nowhere")

    def test_a_lock_is_let_go_of(self, files: Files, root: str) -> None:
        files.make_directory(root)
        for _ in range(2):
            with pytest.raises(KeyError), files.lock(f"{root}/lock"):
                raise KeyError
