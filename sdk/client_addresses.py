"""The front doors that a client may go to: those that it was given and those it was told of."""

from collections.abc import Sequence
from typing import Final

from ..core.addresses import is_wildcard, parse_address
from ..core.errors import TransportError
from ..proto.generated import ingress_pb2 as wire
from .errors import InvalidOptionError

INGRESS_DEFAULT: Final = "127.0.0.1:8081"
LEARNED_MAX: Final = 256
"""So many addresses are learned at most; no cluster has more nodes."""
ADDRESS_LENGTH_MAX: Final = 512

_URL: Final = ("http://", "https://")


def is_url(address: str) -> bool:
    """Whether an address is that of an HTTP front door."""
    return address.startswith(_URL)


def given_addresses(ingress: str | Sequence[str] | None) -> tuple[str, ...]:
    """The addresses that an option `ingress` names, each once: all URLs, or all ``host:port``.

    Raises InvalidOptionError.
    """
    if ingress is None:
        return (INGRESS_DEFAULT,)
    texts = ingress.split(",") if isinstance(ingress, str) else ingress
    addresses = tuple(dict.fromkeys(stripped for text in texts if (stripped := text.strip())))
    if not addresses:
        raise InvalidOptionError(
            f"option ingress of create_client is {ingress!r}: it names no address; give host:port "
            "of a gRPC front door, several separated by commas, or the URL of an HTTP front door"
        )
    urls = [address for address in addresses if is_url(address)]
    if urls and len(urls) < len(addresses):
        raise InvalidOptionError(
            f"option ingress of create_client is {ingress!r}: it mixes URLs with host:port; a "
            "client goes to HTTP front doors or to gRPC ones"
        )
    for address in addresses:
        if not urls:
            _check(address)
    return addresses


def _check(address: str) -> None:
    try:
        parse_address(address)
    except ValueError as error:
        raise InvalidOptionError(
            f"option ingress of create_client is {address!r}: {error}, or the URL of an HTTP front "
            "door"
        ) from None


class FrontDoorAddresses:
    """Which address comes next.

    The given ones stay; behind them come the learned ones, which are those that were told last.
    After a failure it is the turn of the next one that has not failed in this round, which is over
    when all have.

    What was learned is a hint: an address may be advertised wrongly and lead nowhere, or into
    another cluster, which would run what was meant for this one. So who answers at an address that
    was learned has to name the cluster that it was learned from. A given address is taken at its
    word: a cluster that was set up anew has another fingerprint.

    Attributes:
        current: whose turn it is.
    """

    def __init__(self, given: Sequence[str]) -> None:
        """Take those that were given, one at least."""
        assert given, "a client knows an address"
        self._given = tuple(dict.fromkeys(given))
        self._learned: tuple[str, ...] = ()
        self._cluster = ""
        self._failed: set[str] = set()
        self._refusing: set[str] = set()
        self.current = self._given[0]

    @property
    def all(self) -> tuple[str, ...]:
        """In the order of their turns."""
        return self._given + self._learned

    @property
    def given(self) -> tuple[str, ...]:
        """Those that were given."""
        return self._given

    @property
    def refused_everywhere(self) -> bool:
        """Whether all that were given have refused the session that was tried there last."""
        return self._refusing.issuperset(self._given)

    # What happened at the current one

    def opened(self, told: wire.FrontDoors | None) -> None:
        """It has opened a session, and told this.

        Raises TransportError when it was learned and is not of the cluster that it was learned
        from: nothing may be asked there.
        """
        cluster = told.cluster if told is not None else ""
        if self.current not in self._given and cluster != self._cluster:
            raise TransportError(
                f"{self.current} belongs to another cluster than the node that told of it: set "
                "listen.advertise of that node to a host that leads to it"
            )
        self._learn(told)

    def told(self, doors: wire.FrontDoors) -> None:
        """It has told of other doors than before."""
        self._learn(doors)

    def held(self) -> None:
        """Its session has lasted: a new round begins."""
        self._failed.clear()

    def failed(self, *, refused: bool = False) -> bool:
        """It is lost, or could not be reached; goes to the next one. Whether a round is over.

        `refused`: it was reached and takes no sessions from this client.
        """
        (self._refusing.add if refused else self._refusing.discard)(self.current)
        known = self.all
        self._failed = {*self._failed.intersection(known), self.current}
        # One that is no longer told stands in front of the first.
        after = known.index(self.current) + 1 if self.current in known else 0
        turns = known[after:] + known[:after]
        for address in turns:
            if address not in self._failed:
                self.current = address
                return False
        self._failed.clear()
        self.current = turns[0]
        return True

    def _learn(self, told: wire.FrontDoors | None) -> None:
        if told is None:
            self._cluster, self._learned = "", ()
            return
        self._cluster = told.cluster
        usable = (address for address in told.addresses[:LEARNED_MAX] if _leads_somewhere(address))
        self._learned = tuple(dict.fromkeys(each for each in usable if each not in self._given))


def _leads_somewhere(address: str) -> bool:
    """Whether an address that somebody told can be connected to at all."""
    if len(address) > ADDRESS_LENGTH_MAX:
        return False
    try:
        host, port = parse_address(address)
    except ValueError:
        return False
    return port != 0 and not is_wildcard(host)
