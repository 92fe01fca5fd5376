"""The worker beside the node of ``perdure dev``: started, watched, and started anew."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path
from typing import Final

from ....core.addresses import reached_by
from ....core.errors import PerdureError
from ..output import printable
from .call_lines import app_lines
from .files import Snapshot, changed, take_snapshot
from .handover import connected_workers, hand_over
from .report import AppReport, read_report

POLL_SECONDS: Final = 0.3
END_SECONDS: Final = 1.0
"""How long a worker may finish what it does before it is killed."""
AGAIN_SECONDS: Final = 1.0
"""Wait before a worker that ended by itself, after it had served, is started again."""
_CHILD: Final = f"{__package__}.child"


class Supervisor:
    """Runs the worker until it is told to stop."""

    def __init__(
        self,
        app: Path,
        *,
        ready: asyncio.Event,
        addresses: dict[str, str],
        stop: asyncio.Event,
        report: Path,
        transport: str,
        data: str,
    ) -> None:
        """Take the app's file and the node.

        Args:
            ready: set once the node listens.
            addresses: where each of its doors listens then.
            report: where the worker's process tells what it has loaded.
            transport: what the node's port speaks.
            data: where the node stores, in words.
        """
        self._app = app
        self._ready = ready
        self._addresses = addresses
        self._stop = stop
        self._report = report
        self._transport = transport
        self._data = data
        self._shown = False
        self._told_of_end = False

    async def run(self) -> None:
        """Start the worker, and again at each save, until told to stop. Cancelling stops it too."""
        await self._ready.wait()
        _say(
            f"node: HTTP {self._door('ingress_http')}, gRPC {self._door('ingress_grpc')}, "
            f"admin {self._admin}; data {self._data}"
        )
        while not self._stop.is_set():
            seen = await asyncio.to_thread(take_snapshot, self._app)
            self._report.unlink(missing_ok=True)
            self._shown = self._told_of_end = False
            worker = await self._start()
            try:
                await self._watch(worker, seen)
            finally:
                await _end(worker)
        _say("stopping")

    def _door(self, name: str) -> str:
        return reached_by(self._addresses[name])

    @property
    def _admin(self) -> str:
        return f"http://{self._door('admin')}"

    async def _start(self) -> Process:
        arguments = [str(self._app), self._door("node"), self._transport, str(self._report)]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _CHILD,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            # Ctrl-C is for us: we stop the worker first, then the node.
            start_new_session=True,
        )

    async def _watch(self, worker: Process, seen: Snapshot) -> None:
        """Until the worker is to be started anew, or all is to stop."""
        while not await self._stopped_within(POLL_SECONDS):
            if not self._shown:
                await self._show_when_connected(worker)
            if worker.returncode is not None and self._shown:
                _say(f"the worker has ended ({_ending(worker)}); starting it again")
                await self._stopped_within(AGAIN_SECONDS)
                return
            if worker.returncode is not None and not self._told_of_end:
                self._told_of_end = True
                _say(f"the worker could not start ({_ending(worker)}); waiting for the next save")
            now = await asyncio.to_thread(take_snapshot, self._app)
            if different := changed(seen, now):
                _say(f"changed: {printable(', '.join(map(self._short, different[:5])))}")
                return

    def _short(self, path: str) -> str:
        return path.removeprefix(f"{self._app.parent}{os.sep}")

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True

    async def _show_when_connected(self, worker: Process) -> None:
        report = await asyncio.to_thread(read_report, self._report)
        if report is None:
            return
        try:
            names = await asyncio.to_thread(connected_workers, self._admin, report.deployment)
            if not any(name.endswith(f":{worker.pid}") for name in names):
                return
            self._show(report)
            handover = await asyncio.to_thread(hand_over, self._admin, report.deployment)
        except PerdureError as error:
            _say(f"the node did not answer: {error.code} {error}")
            return
        if handover.moved:
            _say(f"invocations of older code that go on with this one: {handover.moved}")
        if handover.refused:
            reason = printable(handover.refused[0])
            _say(f"invocations of older code that wait: {len(handover.refused)}; {reason}")

    def _show(self, report: AppReport) -> None:
        self._shown = True
        _say(f"{self._app.name} is served as {report.deployment}")
        for line in app_lines(report, self._door("ingress_http"), self._door("ingress_grpc")):
            print(printable(line))
        sys.stdout.flush()


def _say(text: str) -> None:
    print(f"perdure dev: {text}", flush=True)


def _ending(worker: Process) -> str:
    code = worker.returncode or 0
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"


async def _end(worker: Process) -> None:
    """Have it finish, or kill it. When cancelled it is killed."""
    if worker.returncode is not None:
        return
    try:
        worker.terminate()
        async with asyncio.timeout(END_SECONDS):
            await worker.wait()
    except TimeoutError:
        _kill(worker)
        await worker.wait()
    except asyncio.CancelledError:
        _kill(worker)
        raise


def _kill(worker: Process) -> None:
    """Kill it and what it has started."""
    if worker.returncode is None:
        os.killpg(worker.pid, signal.SIGKILL)
