"""Environment: an app, its worker and a node in one process, on a clock that jumps."""

import asyncio
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, TypeAlias, get_args

from ..core.net.inproc import InProcNetwork, InProcTransport
from ..core.options import parse_assignment
from ..core.protocol.session import HandlerKind
from ..core.random import SeededRandom
from ..core.storage.memory import MemoryStore
from ..core.tasks import TaskScope
from ..core.waiters import Waiters
from ..node.options import load_node_options
from ..sdk.client import RestateClient
from ..sdk.errors import InvalidOptionError
from ..sdk.run_worker import make_worker
from ..sdk.service import App, ServiceBase
from ..sdk.worker import Worker
from .crash_points import CrashAt, CrashPoint, crash_point_in
from .errors import ReplayMismatchError, StalledError
from .in_process_requests import InProcessRequests
from .inspection import Entry, Inspection
from .node_life import NODE_ADDRESS, STORES, NodeLife
from .quiet import node_logs_to_logging
from .replay_check import RecordedAttempt, ReplayMode, check_recording
from .virtual_time import START_DEFAULT, TimeUser, VirtualClock, sockets_open, virtual_time

AppLike: TypeAlias = App | ServiceBase | Iterable[ServiceBase]

_DEPLOYMENT: Final = "under-test"
_CODE_HASH: Final = "0" * 64


class Environment(TimeUser):
    """An app under test, ``async with Environment(app) as env:``.

    Engine, worker, client and durable loop are those that run in production; stores, transport and
    clock are others: nothing is written, no port is opened, and time jumps to the next timer when
    nothing can run. When it is left, it raises what its checks have found.

    Attributes:
        client: calls handlers, as `perdure.sdk.create_client` gives one.
        crash_points: where the worker could have crashed so far, in order.
    """

    client: RestateClient

    def __init__(
        self,
        app: AppLike,
        *,
        skip_time: bool = True,
        always_suspend: bool = False,
        replay_check: ReplayMode = "whole",
        crash: CrashAt | None = None,
        start_time: datetime = START_DEFAULT,
        seed: int = 0,
        options: Iterable[str] = (),
    ) -> None:
        """Take the app, or a service or some of them.

        Args:
            skip_time: whether time jumps by itself; else only `advance` moves it.
            always_suspend: handlers leave the worker whenever they wait, and are replayed.
            replay_check: what is replayed after each run of a handler.
            crash: where something is to crash.
            start_time: what the clock shows at first.
            seed: what ids and waits are drawn from.
            options: of the node, such as ``retry.max_attempts=3``.

        Raises OptionsError, InvalidOptionError, and what `App` raises.
        """
        if replay_check not in get_args(ReplayMode):
            allowed = ", ".join(map(repr, get_args(ReplayMode)))
            raise InvalidOptionError(f"replay_check={replay_check!r} is none of {allowed}")
        if crash is not None and (crash.step < 1 or crash.what not in ("worker", "node")):
            raise InvalidOptionError(
                f"{crash!r}: steps count from 1, and what crashes is 'worker' or 'node'"
            )
        self._app = _app_of(app)
        self._skip_time = skip_time
        self._replay_check: ReplayMode = replay_check
        self._crash = crash
        self._start_time = start_time
        self._random = SeededRandom(seed)
        assignments = ["partitions.count=1", "log.sync_inline=always"]
        if always_suspend:
            assignments.append("retry.inactivity_timeout=0s")
        self._options = load_node_options(
            assignments=[
                parse_assignment(text, "Environment(options=…)")
                for text in (*assignments, *options)
            ]
        )
        self.crash_points: list[CrashPoint] = []
        self._entered = 0
        self._stores = {name: MemoryStore() for name in STORES}
        self._network = InProcNetwork()
        self._changed = Waiters()
        self._node: NodeLife | None = None
        self._worker: Worker | None = None
        self._worker_task: asyncio.Task[None] | None = None
        self._dead = False
        self._crash_due: Literal["worker", "node"] | None = None
        self._mismatches: list[str] = []
        self._body: asyncio.Task[Any] | None = None
        self._failure: BaseException | None = None
        self._cleanup = ExitStack()
        self._scope = TaskScope("environment", on_failure=self._fail)

    # Start and end -------------------------------------------------------------------------------

    async def __aenter__(self) -> "Environment":
        """Start, unless it has started. Raises UnsuitableLoopError on a loop not of asyncio."""
        if self._entered:
            self._entered += 1
            return self
        assert self._node is None, "an environment is used once: make another one"
        self._time = virtual_time(asyncio.get_running_loop())
        self._clock = VirtualClock(self._time, self._start_time)
        self._time.add(self)
        self._cleanup.callback(self._time.remove, self)
        self._cleanup.enter_context(node_logs_to_logging())
        self._body = asyncio.current_task()
        workflows = {
            handler.service_name: handler.name
            for handler in self._app.handler_table().values()
            if handler.kind is HandlerKind.WORKFLOW
        }
        self.client = RestateClient(
            InProcessRequests(self._find_node, workflows), clock=self._clock, random=self._random
        )
        try:
            await self._start_node()
            await self._start_worker()
        except BaseException:
            await self._close()
            raise
        self._time.skipping = self._skip_time
        self._entered = 1
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Stop everything. Raises ReplayMismatchError, or StalledError when nothing could go on.

        Of those that were nested the outermost stops.
        """
        self._entered -= 1
        if self._entered:
            return
        self._time.skipping = True
        failure = self._failure
        if failure is not None and self._body is not None and self._body.cancelling():
            self._body.uncancel()
        await self._close()
        if self._mismatches:
            raise ReplayMismatchError("\n".join(dict.fromkeys(self._mismatches))) from error
        if failure is not None and (error is None or isinstance(error, asyncio.CancelledError)):
            raise failure

    async def _close(self) -> None:
        try:
            await self._stop_worker()
            await self._scope.close()
            if self._node is not None:
                await self._node.close()
        finally:
            self._cleanup.close()

    def _fail(self, failure: BaseException) -> None:
        """Have the test end with `failure` wherever it waits."""
        if self._failure is None:
            self._failure = failure
            if self._body is not None and not self._body.done():
                self._body.cancel()

    # The node and the worker ---------------------------------------------------------------------

    async def _find_node(self) -> NodeLife:
        while self._node is None or not self._node.leading:
            await self._changed.wait()
        return self._node

    async def _start_node(self) -> None:
        self._node = NodeLife(
            self._options,
            self._stores,
            network=self._network,
            time=self._time,
            clock=self._clock,
            random=self._random,
        )
        await self._node.start()
        self._changed.wake()

    async def _start_worker(self) -> None:
        self._dead = False
        self._worker = worker = make_worker(
            self._app,
            deployment=_DEPLOYMENT,
            code_hash=_CODE_HASH,
            transport=InProcTransport(self._network, "worker"),
            clock=self._clock,
            random=self._random,
            name="worker",
            make_attempt=partial(
                RecordedAttempt,
                on_output=self._attempt_sends,
                on_end=self._attempt_ended,
                is_dead=lambda: self._dead,
            ),
        )
        self._worker_task = self._scope.spawn(worker.run([NODE_ADDRESS]), name="worker")
        welcomed = self._scope.spawn(worker.welcomed.wait(), name="welcome")
        await asyncio.wait((self._worker_task, welcomed), return_when=asyncio.FIRST_COMPLETED)
        welcomed.cancel()
        if self._worker_task.done():
            self._worker_task.result()

    async def _stop_worker(self) -> None:
        self._dead = True
        if self._worker_task is not None:
            self._worker_task.cancel()
            await asyncio.wait([self._worker_task])

    async def crash_worker(self) -> None:
        """Kill the worker, whatever it is at, and start another one."""
        await self._stop_worker()
        await self._start_worker()

    async def crash_node(self) -> None:
        """Kill the node and start it again on what it had synced to its stores."""
        node = await self._find_node()
        await node.crash()
        self._dead = False
        await self._start_node()

    def _attempt_sends(self, attempt: RecordedAttempt, frames: bytes) -> bytes:
        if self._dead:
            return b""
        point = crash_point_in(attempt, frames)
        if point is None:
            return frames
        self.crash_points.append(point)
        crash = self._crash
        if crash is None or crash.step != len(self.crash_points):
            return frames
        self._crash = None
        self._crash_due = crash.what
        self._dead = crash.before or crash.what == "worker"
        # What leaves with the crash arrives, unless it is to be lost.
        return b"" if crash.before else frames

    def _attempt_ended(self, attempt: RecordedAttempt) -> None:
        found = check_recording(attempt.handler, attempt.recording, self._replay_check)
        if found is not None:
            self._mismatches.append(f"{attempt.handler.target} does not replay: {found}")
            self._fail(ReplayMismatchError(self._mismatches[0]))

    # What the clock asks -------------------------------------------------------------------------

    def busy(self) -> bool:
        """Whether a step runs in a thread, or one that is a coroutine has sockets open."""
        worker = self._worker
        if worker is None or worker._steps is None or worker._steps._closed:
            return False
        steps = worker._steps
        if steps._in_threads or any(run.busy for run in worker.handler_threads._running):
            return True
        return len(steps._scope) > 0 and sockets_open(asyncio.get_running_loop())

    def before_jump(self) -> bool:
        """Crash what is to crash; have quiet attempts suspend in their time."""
        if self._crash_due is not None:
            crash = self.crash_worker() if self._crash_due == "worker" else self.crash_node()
            self._crash_due = None
            self._scope.spawn(crash, name="crash")
            return True
        if self._node is not None and self._node.failure is not None:
            self._fail(self._node.failure)
            self._node.failure = None
            return True
        return self._node is not None and self._node.watch_silence()

    def stalled(self) -> bool:
        """End the test with what waits, and for what."""
        if self._failure is not None:
            return False
        reason = (
            "nothing is left that could wake what waits"
            if self._time.skipping
            else "time stands still and everything waits: let it pass with env.advance"
        )
        waiting = "" if self._node is None else self._inspection.unfinished()
        self._fail(StalledError(f"{reason}. Unfinished invocations: {waiting or 'none'}"))
        return True

    # Time ----------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The virtual time, in UTC."""
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=self._clock.time_ns() / 1000)

    async def advance(self, duration: timedelta) -> None:
        """Let time pass, and everything happen that it brings about, before it returns."""
        await self._time.advance(duration // timedelta(microseconds=1) * 1000)

    # Looking in ----------------------------------------------------------------------------------

    @property
    def _inspection(self) -> Inspection:
        assert self._node is not None
        return Inspection(self._node.engine.manager)

    def state(self, service: Any, key: str) -> dict[str, Any]:
        """The state of an object or workflow: values by name, decoded where they are JSON.

        `service` is the object or its name.
        """
        return self._inspection.state(_name_of(service), key)

    async def set_state(self, service: Any, key: str, values: dict[str, Any]) -> None:
        """Replace the state of an object or workflow, in its turn: bytes as they are, else JSON."""
        await self._inspection.set_state(_name_of(service), key, values)

    def journal(self, invocation_id: str) -> list[Entry]:
        """What an invocation has recorded. Raises KeyError when nobody knows it."""
        return self._inspection.journal(invocation_id)

    def status(self, invocation_id: str) -> str:
        """How an invocation is, such as ``suspended``. Raises KeyError when nobody knows it."""
        return self._inspection.status(invocation_id)


def _app_of(app: AppLike) -> App:
    if isinstance(app, App):
        return app
    return App([app] if isinstance(app, ServiceBase) else app)


def _name_of(service: Any) -> str:
    return service if isinstance(service, str) else service.name
