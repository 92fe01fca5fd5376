"""Clients that add to counters while things break, and the accounts they keep.

Every add is 1 and has its own idempotency key, so the results of one counter's adds must be the
numbers from 1 on, each once, in an order that agrees with the clients' clocks.
"""

import itertools
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Protocol

from perdure.core.random import SeededRandom

from .cluster import LOST, Answer
from .processes import Process


class Client(Protocol):
    """One client of what is loaded."""

    def post(self, path: str, value: object, idempotency_key: str | None = None) -> Answer:
        """POST a value as JSON. Raises one of `LOST`."""
        ...

    def close(self) -> None:
        """Close."""
        ...

    def __enter__(self) -> Any:
        """Itself."""
        ...

    def __exit__(self, *_: object) -> None:
        """Close."""
        ...


class Target(Protocol):
    """What is loaded: a node, or several as one."""

    @property
    def node(self) -> Process | None:
        """A node that is to live."""
        ...

    def http(self) -> Client:
        """A client for one thread."""
        ...

    def counter(self, key: str) -> int:
        """A counter's value."""
        ...


ADD_SECONDS_MAX = 180.0
"""An add that is repeated gets its answer within this time, or the test fails."""
RETRY_SECONDS = 0.02


@dataclass
class Add:
    """One add as its client saw it."""

    key: str
    idempotency_key: str
    handler: str
    began: float
    ended: float = 0.0
    value: int | None = None
    tries: int = 0

    @property
    def acked(self) -> bool:
        """Whether its client has the result."""
        return self.value is not None


@dataclass
class Accounts:
    """What all clients saw."""

    adds: list[Add] = field(default_factory=list)
    retries: int = 0
    refusals: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def by_key(self) -> dict[str, list[Add]]:
        """The adds of each counter."""
        sorted_out: dict[str, list[Add]] = defaultdict(list)
        for add in self.adds:
            sorted_out[add.key].append(add)
        return sorted_out

    def summary(self) -> str:
        """One line for the log."""
        acked = sum(add.acked for add in self.adds)
        return (
            f"{len(self.adds)} adds, {acked} acked, {len(self.adds) - acked} given up, "
            f"{self.retries} repeated tries, refused: {dict(self.refusals)}"
        )


class Load:
    """Adds from several threads until it is stopped: ``with Load(cluster, seed) as load``.

    Three adds of four are repeated under their idempotency key until they are acked; the others are
    given up after the first try that brought no result, as a client would that does not care.
    """

    def __init__(
        self,
        cluster: Target,
        seed: int,
        *,
        threads: int = 4,
        keys: int = 24,
        handlers: tuple[str, ...] = ("add", "add", "add_in_steps"),
        name: str = "k",
    ) -> None:
        """Take what to load; ``name`` tells the counters of one load from those of another."""
        self._cluster = cluster
        self._seed = seed
        self._keys = [f"{name}{number}" for number in range(keys)]
        self._handlers = handlers
        self._name = name
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._abandoned = False
        self._condition = threading.Condition()
        self._last_acked_begin = 0.0
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"load-{number}")
            for number in range(threads)
        ]
        self.accounts = Accounts()

    def __enter__(self) -> "Load":
        """Start the threads."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop the threads; their failures are raised unless the body has failed already."""
        self._abandoned = kind is not None
        self.stop()
        if kind is None:
            self.check()

    def stop(self) -> None:
        """Begin no more adds, and wait until those that are repeated have their answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * ADD_SECONDS_MAX)
            assert not thread.is_alive(), "a client hangs"

    def check(self) -> None:
        """Raise the first failure of a client."""
        if self._errors:
            raise self._errors[0]

    def wait_for_acks(self, since: float, seconds: float = ADD_SECONDS_MAX) -> float:
        """Wait for the ack of a try that began after `since`; gives when it was there.

        Raises AssertionError when none comes, or when the node ends.
        """
        deadline = time.monotonic() + seconds
        with self._condition:
            while self._last_acked_begin <= since:
                self.check()
                node = self._cluster.node
                assert node is not None
                assert node.status is None, f"the node ended with status {node.status}"
                assert time.monotonic() < deadline, f"no add was acked in {seconds:g} s"
                self._condition.wait(0.05)
        return time.monotonic()

    # One client

    def _run(self, number: int) -> None:
        random = SeededRandom(self._seed * 1000 + number)
        client = self._cluster.http()
        try:
            while not self._stop.is_set() and not self._errors:
                key = self._keys[random.bits(32) % len(self._keys)]
                handler = self._handlers[random.bits(32) % len(self._handlers)]
                identity = f"{self._name}-{next(self._numbers)}"
                self._add(client, Add(key, identity, handler, 0.0), random.bits(2) != 0)
        except BaseException as error:
            self._errors.append(error)
        finally:
            client.close()

    def _add(self, client: Client, add: Add, repeat: bool) -> None:
        self.accounts.adds.append(add)
        add.began = time.monotonic()
        deadline = add.began + ADD_SECONDS_MAX
        while True:
            tried = time.monotonic()
            if self._try(client, add):
                with self._condition:
                    self._last_acked_begin = max(self._last_acked_begin, tried)
                    self._condition.notify_all()
                return
            if not repeat or self._abandoned:
                return
            self.accounts.retries += 1
            assert time.monotonic() < deadline, f"{add} was not acked in {ADD_SECONDS_MAX:g} s"
            time.sleep(RETRY_SECONDS)

    def _try(self, client: Client, add: Add) -> bool:
        """Send the add once; whether it was acked. Raises AssertionError for a strange answer."""
        add.tries += 1
        try:
            answer = client.post(f"/Counter/{add.key}/{add.handler}", 1, add.idempotency_key)
        except TimeoutError:
            raise AssertionError(f"no answer and no error for {add}") from None
        except LOST as error:
            self.accounts.refusals[type(error).__name__] += 1
            return False
        if answer.status == 200:
            add.value = answer.json()
            add.ended = time.monotonic()
            return True
        assert answer.status in (429, 503), (answer, add)
        self.accounts.refusals[answer.json()["error"]] += 1
        return False


def check_counts(cluster: Target, accounts: Accounts) -> None:
    """Each acked add counted once, each other at most once, every result once and in order."""
    for key, adds in accounts.by_key().items():
        acked = sum(add.acked for add in adds)
        value = cluster.counter(key)
        assert acked <= value <= len(adds), (key, acked, value, len(adds))
        results = sorted(add.value for add in adds if add.value is not None)
        assert len(set(results)) == len(results), f"{key}: two adds had the same result: {results}"
        assert not results or (results[0] >= 1 and results[-1] <= value), (key, results, value)
        _check_order(key, adds)


def _check_order(key: str, adds: list[Add]) -> None:
    """An add that ended before another one began must have the smaller result."""
    latest_begin = 0.0
    for add in sorted((add for add in adds if add.acked), key=lambda add: add.value or 0):
        assert add.ended >= latest_begin, f"{key}: {add} was overtaken by a later add"
        latest_begin = max(latest_begin, add.began)


def check_stored_results(cluster: Target, accounts: Accounts, count_max: int = 200) -> None:
    """A repeated call with a known idempotency key gives the stored result."""
    acked = [add for add in accounts.adds if add.acked]
    step = max(1, len(acked) // count_max)
    with cluster.http() as client:
        for add in acked[::step]:
            answer = client.post(f"/Counter/{add.key}/{add.handler}", 1, add.idempotency_key)
            assert (answer.status, answer.json()) == (200, add.value), add


def settle(cluster: Target, accounts: Accounts) -> None:
    """Repeat every add that was given up, then all of them must have been counted exactly once."""
    with cluster.http() as client:
        for add in accounts.adds:
            if not add.acked:
                answer = client.post(f"/Counter/{add.key}/{add.handler}", 1, add.idempotency_key)
                assert answer.status == 200, (answer, add)
                add.value = answer.json()
                add.ended = time.monotonic()
    for key, adds in accounts.by_key().items():
        results = sorted(add.value or 0 for add in adds)
        assert results == list(range(1, len(adds) + 1)), (key, results)
        assert cluster.counter(key) == len(adds), key


def check_all(cluster: Target, accounts: Accounts) -> None:
    """Everything that must hold after a load, whatever broke during it."""
    assert accounts.adds, "the load did nothing"
    check_counts(cluster, accounts)
    check_stored_results(cluster, accounts)
    settle(cluster, accounts)
