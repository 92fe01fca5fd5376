"""Who listens where, among those that reach each other without sockets."""

from typing import Final, Generic, TypeVar

from ..errors import AddressInUseError, NobodyListensError

L = TypeVar("L")

_FIRST_PORT: Final = 40_000


class Bindings(Generic[L]):
    """The listeners of one network, by address. They, too, are on one event loop."""

    def __init__(self, whose: str) -> None:
        """Start with nobody listening; `whose` says in errors where another listener would be."""
        self._whose = whose
        self._listeners: dict[str, L] = {}
        self._next_port = _FIRST_PORT

    def bind(self, address: str, listener: L) -> str:
        """Take ``host:port``, of which port 0 is a free one; gives the address it is.

        Raises AddressInUseError.
        """
        host, _, port = address.rpartition(":")
        if port == "0":
            address = f"{host}:{self._next_port}"
            self._next_port += 1
        if address in self._listeners:
            raise AddressInUseError(
                f"cannot listen on {address}: another listener of {self._whose} has it; "
                "close that one or use another port"
            )
        self._listeners[address] = listener
        return address

    def release(self, address: str, listener: L) -> None:
        """Nobody listens there any more; does nothing when somebody else has the address."""
        if self._listeners.get(address) is listener:
            del self._listeners[address]

    def find(self, address: str) -> L | None:
        """Who listens at the address."""
        return self._listeners.get(address)

    def reach(self, address: str) -> L:
        """Who listens at the address. Raises NobodyListensError."""
        listener = self._listeners.get(address)
        if listener is None:
            raise NobodyListensError(f"cannot connect to {address}: nobody listens there")
        return listener

    def all(self) -> list[tuple[str, L]]:
        """Every address and who listens there, in the order in which they were bound."""
        return list(self._listeners.items())
