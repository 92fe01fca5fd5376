"""A worker: keeps one session with every node and runs what the nodes open on them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from ..core.clock import Clock
from ..core.errors import PerdureError
from ..core.ids import InvocationId
from ..core.net.transport import Transport
from ..core.protocol.messages import PROTOCOL_VERSION
from ..core.protocol.session import SESSION_SERVICE, Hello, Nodes, Welcome
from ..core.random import Random
from ..core.retry import RetryPolicy
from ..core.tasks import TaskScope
from .attempt import Attempt
from .errors import WorkerRefusedError
from .handler_threads import HANDLER_THREADS_MAX_DEFAULT, HandlerThreads
from .known_nodes import KnownNodes
from .service import App
from .session import Session
from .step_runner import THREADS_MAX_DEFAULT, StepRunner

ATTEMPTS_MAX_DEFAULT: Final = 1000
DRAIN_SECONDS_DEFAULT: Final = 10.0
RECONNECT: Final = RetryPolicy(
    initial_interval_ns=50_000_000, interval_max_ns=250_000_000, attempts_max=None
)
RECONNECT_TOLD: Final = RetryPolicy(
    initial_interval_ns=50_000_000, interval_max_ns=2_000_000_000, attempts_max=None
)
"""To nodes that the worker was told of: it may be unable to reach them, and never is."""

logger = logging.getLogger("perdure.sdk")


class Worker:
    """Runs the handlers of one app for any number of nodes.

    Attributes:
        deployment: the name that the code is registered under.
        handlers: by service and handler name.
        steps: runs closures.
        handler_threads: runs handlers that are a `def`.
        clock: tells time.
        attempts_max: bound on the attempts of one session.
        make_attempt: makes what runs one attempt; takes what `Attempt` takes.
        welcomed: set once a node has taken this worker.
    """

    def __init__(
        self,
        app: App,
        *,
        deployment: str,
        code_hash: str,
        name: str,
        transport: Transport,
        clock: Clock,
        random: Random,
        attempts_max: int = ATTEMPTS_MAX_DEFAULT,
        step_threads_max: int = THREADS_MAX_DEFAULT,
        handler_threads_max: int = HANDLER_THREADS_MAX_DEFAULT,
        drain_seconds: float = DRAIN_SECONDS_DEFAULT,
        make_attempt: Callable[..., Attempt] = Attempt,
    ) -> None:
        """Take the app and the ports; `run` connects."""
        self._transport = transport
        self.clock = clock
        self._random = random
        self._step_threads_max = step_threads_max
        self._handler_threads_max = handler_threads_max
        self._drain_seconds = drain_seconds
        self._sessions: list[Session] = []
        self._known = KnownNodes(())
        self._scope: TaskScope | None = None
        self._served: dict[str, None] = {}
        self._by_invocation: dict[InvocationId, Attempt] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self._steps: StepRunner | None = None
        self._handler_threads: HandlerThreads | None = None
        self.deployment = deployment
        self.handlers = app.handler_table()
        self.attempts_max = attempts_max
        self.make_attempt = make_attempt
        self.welcomed = asyncio.Event()
        self._hello = Hello(
            deployment, code_hash, name, attempts_max, PROTOCOL_VERSION, app.manifest()
        )

    def hello(self, address: str) -> bytes:
        """The greeting at an address, encoded; where it was told, for this cluster alone."""
        known = self._known
        cluster = "" if address in known.given else known.cluster
        return msgspec.msgpack.encode(msgspec.structs.replace(self._hello, cluster=cluster))

    @property
    def steps(self) -> StepRunner:
        """Runs closures; only while `run` does."""
        assert self._steps is not None
        return self._steps

    @property
    def handler_threads(self) -> HandlerThreads:
        """Runs handlers that are a `def`; only while `run` does."""
        assert self._handler_threads is not None
        return self._handler_threads

    def stop(self, drain_seconds: float | None = None) -> None:
        """Ask for no more work, finish what runs, then let `run` return. On the loop only.

        What runs gets `drain_seconds` to finish, by default what the worker was made with.
        """
        if drain_seconds is not None:
            self._drain_seconds = drain_seconds
        self._stopping.set()

    async def run(self, addresses: Sequence[str], stop: asyncio.Event | None = None) -> None:
        """Serve the nodes at `addresses` until `stop` is called or the event given here is set.

        So are all others that they tell of, as the cluster changes. Raises WorkerRefusedError when
        one of those at `addresses` refuses this worker for good. Cancelling drops every session at
        once.
        """
        if stop is not None:
            self._stopping = stop
        async with TaskScope("worker steps", on_failure=_log_failure) as step_scope:
            loop = asyncio.get_running_loop()
            self._steps = StepRunner(loop, step_scope, self.clock, self._step_threads_max)
            self._handler_threads = HandlerThreads(loop, self._handler_threads_max)
            try:
                async with TaskScope("worker sessions") as scope:
                    self._known = KnownNodes(addresses)
                    self._scope = scope
                    self._follow()
                    try:
                        await self._stopping.wait()
                        await self._drain()
                    finally:
                        # A session that ends from here on must not begin another one.
                        self._scope = None
                    scope.cancel()
            finally:
                self._handler_threads.close()
                self._steps.close()
                step_scope.cancel()

    def _follow(self) -> None:
        """See to it that every address is served which is to be."""
        scope = self._scope
        if scope is None or self._stopping.is_set():
            return
        for address in self._known.wanted():
            if address not in self._served:
                self._served[address] = None
                scope.spawn(self._serve(address), name=address)

    async def _serve(self, address: str) -> None:
        try:
            await self._keep_session(address)
        finally:
            del self._served[address]

    async def _keep_session(self, address: str) -> None:
        failures = 0
        said = ""
        while not self._stopping.is_set() and self._known.is_wanted(address):
            session: Session | None = None
            try:
                connection = await self._transport.connect(address, SESSION_SERVICE)
                session = Session(self, connection, address)
                await session.run()
                logger.info("%s: the connection is lost", address)
            except PerdureError as error:
                if isinstance(error, WorkerRefusedError) and address in self._known.given:
                    raise
                sentence = f"{error} [{error.code}]"
                # It is tried again every second: said once, until it is another or has worked.
                if sentence != said:
                    logger.info("%s", sentence if address in sentence else f"{address}: {sentence}")
                    said = sentence
            if session is not None and session.welcome is not None:
                failures, said = 1, ""
            else:
                failures += 1
            retry = RECONNECT if address in self._known.given else RECONNECT_TOLD
            await self._pause(retry.delay_ns(failures, self._random) or 0)

    async def _pause(self, duration_ns: int) -> None:
        try:
            async with asyncio.timeout(duration_ns / 1e9):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _drain(self) -> None:
        for session in self._sessions:
            session.drain()
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self._idle.wait()
        except TimeoutError:
            logger.warning(
                "%d attempts still run after %g seconds; the nodes will try them elsewhere",
                sum(len(session.attempts) for session in self._sessions),
                self._drain_seconds,
            )

    # What sessions tell

    def connected(self, session: Session, welcome: Welcome) -> None:
        """A node has taken this worker."""
        self._sessions.append(session)
        self._known.met(session.address, welcome.node)
        self.welcomed.set()
        logger.info("connected to node %s of cluster %s", welcome.node, welcome.cluster)
        if self._stopping.is_set():
            session.drain()

    def told(self, nodes: Nodes) -> None:
        """A node has told of the others."""
        self._known.tell(nodes)
        self._follow()

    def disconnected(self, session: Session) -> None:
        """A session has ended, welcomed or not."""
        if session in self._sessions:
            self._sessions.remove(session)
            self._known.lost(session.address)
            # It may be at an address now that was told of.
            self._follow()

    def attempt_of(self, newer: Attempt) -> Attempt | None:
        """The attempt that runs of the same invocation; `newer` takes its place when none does."""
        running = self._by_invocation.setdefault(newer.machine.invocation_id, newer)
        if running is newer:
            if self._idle.is_set():
                self._idle.clear()
            return None
        return running

    def forget(self, attempt: Attempt) -> None:
        """An attempt has ended."""
        by_invocation = self._by_invocation
        if by_invocation.get(attempt.machine.invocation_id) is attempt:
            del by_invocation[attempt.machine.invocation_id]
            if not by_invocation:
                self._idle.set()


def _log_failure(failure: BaseException) -> None:
    logger.error("a step's task failed", exc_info=failure)
