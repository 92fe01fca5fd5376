"""The answering end: questions of other nodes, answered with what this node has itself."""

import asyncio
from functools import partial
from typing import Final

import structlog

from ...core.errors import (
    MalformedMessageError,
    MessageTooLargeError,
    PerdureError,
    TransportError,
)
from ...core.net.peers import Introduction, until_its_end
from ...core.net.transport import Connection
from ...core.pauses import pause
from ...core.tasks import TaskScope
from ...partition_processor.partition import PeerOverloadedError
from ..api.answering import answer_error, answer_of
from ..api.routes import Request, Routes
from ..elsewhere import Forwarded
from . import frames

AT_ONCE_MAX: Final = 32
"""So many questions of one node are answered at the same time."""
QUEUED_BYTES_MAX: Final = 4 * 1024 * 1024
"""With so much unsent, no more questions are read, nor answers begun."""
_ROOM_SECONDS: Final = 0.02

_log = structlog.get_logger("admin")


class PeerAnswers:
    """Serves the connections that other nodes make."""

    def __init__(self, routes: Routes) -> None:
        """Take what is answered; none of it may ask other nodes for the whole of its answer."""
        self._routes = routes

    async def serve(self, them: Introduction, connection: Connection) -> None:
        """Serve one connection until its end; a `PeerHandler`. Cancelling ends what is asked."""
        answering: dict[int, asyncio.Task[None]] = {}

        def failed(failure: BaseException) -> None:
            _log.error("a question of another node failed", node=them.node, reason=repr(failure))

        scope = TaskScope(f"asked by {them.node}", on_failure=failed)
        try:
            with until_its_end(frames.ADMIN_SERVICE, them.node):
                while (message := await connection.receive()) is not None:
                    self._received(frames.decode_asked(message), answering, scope, connection, them)
                    await _until_room(connection)
        finally:
            await scope.close()

    def _received(
        self,
        frame: frames.Asked,
        answering: dict[int, asyncio.Task[None]],
        scope: TaskScope,
        connection: Connection,
        them: Introduction,
    ) -> None:
        """Do what a message asks for. Raises MalformedMessageError."""
        if isinstance(frame, frames.Forget):
            task = answering.get(frame.number)
            if task is not None:
                task.cancel()
        elif len(answering) >= AT_ONCE_MAX:
            error = PeerOverloadedError(
                f"node {them.node} has {AT_ONCE_MAX} questions unanswered here: try again shortly"
            )
            _send(connection, frame.number, answer_error(error))
        elif frame.number in answering:
            raise MalformedMessageError(f"question {frame.number} is asked twice")
        else:
            task = scope.spawn(self._answer(connection, frame), name="question")
            answering[frame.number] = task
            task.add_done_callback(partial(_ended, answering, frame.number))

    async def _answer(self, connection: Connection, ask: frames.Ask) -> None:
        await _until_room(connection)
        try:
            route, parts = self._routes.find(ask.method, ask.path)
            answer = answer_of(await route.answer(Request(parts, ask.query, ask.body)))
        except PerdureError as error:
            answer = answer_error(error)
        except Exception as error:
            _log.error("a question of another node failed", path=ask.path, reason=repr(error))
            answer = answer_error(
                PerdureError(f"the question failed: {error!r}; please report this")
            )
        _send(connection, ask.number, answer)


async def _until_room(connection: Connection) -> None:
    while connection.queued_bytes > QUEUED_BYTES_MAX:
        await pause(asyncio.get_running_loop(), _ROOM_SECONDS)


def _ended(
    answering: dict[int, asyncio.Task[None]], number: int, _task: asyncio.Task[None]
) -> None:
    del answering[number]


def _send(connection: Connection, number: int, answer: Forwarded) -> None:
    try:
        connection.send(frames.encode_frame(frames.Answer(number, answer.status, answer.body)))
    except MessageTooLargeError as error:
        answer = answer_error(error)
        connection.send(frames.encode_frame(frames.Answer(number, answer.status, answer.body)))
    except TransportError:
        pass  # Its end is about to be received.
