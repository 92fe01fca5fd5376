"""The SnapshotRepository port: objects by name, as a directory or an object store keeps them."""

from typing import Protocol


class ObjectWriter(Protocol):
    """An object that is being written and that nobody sees yet."""

    def write(self, data: bytes) -> None:
        """Append bytes. Raises SnapshotRepositoryError."""
        ...

    def commit(self) -> None:
        """Make the object durable, then visible. Raises SnapshotRepositoryError."""
        ...

    def abandon(self) -> None:
        """Drop it if it is not committed. Never raises; what stays is never visible."""
        ...


class SnapshotRepository(Protocol):
    """Objects by name; the parts of a name are joined by ``/``.

    Contract, the same for directories and object stores:

    - An object is visible as a whole and only when it is durable, or not at all.
    - Objects do not change, apart from those written by `replace`.
    - `replace` is atomic among all nodes: of two that expect the same value, one succeeds.
    - Any thread may call; every call may wait. All of them raise SnapshotRepositoryError.
    """

    @property
    def place(self) -> str:
        """Where it is, for people."""
        ...

    def write(self, name: str) -> ObjectWriter:
        """Begin an object under a name that nobody else writes to."""
        ...

    def read(self, name: str, offset: int, size: int) -> bytes | None:
        """At most `size` bytes from `offset` on, fewer only at the end; None: no such object."""
        ...

    def names(self, prefix: str) -> list[str]:
        """The next part of the names that start with ``prefix/``, sorted, each once.

        Parts that only objects begin which were never committed may be among them.
        """
        ...

    def replace(self, name: str, expected: bytes | None, value: bytes) -> bool:
        """Write a small object if it holds `expected`, None for absent; whether it did.

        On return the new value is durable.
        """
        ...

    def delete(self, name: str) -> None:
        """Delete an object, or what was left of one never committed; absent is fine."""
        ...

    def delete_all(self, prefix: str) -> None:
        """Delete every object below ``prefix/``, committed or not."""
        ...
