"""Doing things to invocations: cancel, kill, pause, resume, restart, purge, one or many at once."""

import asyncio
from asyncio import Future
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlencode

import msgspec

from ...core.errors import PerdureError
from ...core.ids import (
    InvocationId,
    MalformedIdError,
    invocation_id_text,
    parse_invocation_id,
    partition_key_of,
)
from ...partition_processor import outcomes
from ...partition_processor.clients import InvokeOutcome
from ...partition_processor.deployments import Deployment
from ...partition_processor.effects import Answer
from ...partition_processor.operations import Plain, cancel
from ...partition_processor.processor import InvocationNotFoundError
from ...partition_processor.records import Kill, Pause, Purge, Restart, Resume
from ...partition_processor.tables.invocations import (
    STATUS_NAMES,
    STATUS_RUNNING,
    Invocation,
)
from ..elsewhere import Question
from ..errors import AdminRequestError, DeploymentRefusedError
from ..view import AdminView
from .deployments import find_deployment
from .invocation_answers import OperationAnswer, OperationResult
from .invocation_scan import READY, Found, find
from .missing import Missing
from .pacing import Pacer
from .parameters import Parameters, decode_body, partitions_text
from .reach import Led, Reach, asked_partitions
from .routes import Request, Route

IDS_MAX: Final = 1000
LED_PATH: Final = "/led/operations"
"""Where another node has those done that this one leads."""
KEEP: Final = "keep"
LATEST: Final = "latest"

CANCEL: Final = "cancel"
KILL: Final = "kill"
PAUSE: Final = "pause"
RESUME: Final = "resume"
RESTART: Final = "restart"
PURGE: Final = "purge"
OPERATIONS: Final = (CANCEL, KILL, PAUSE, RESUME, RESTART, PURGE)

_MESSAGES: Final = {
    outcomes.NOT_FOUND: "no such invocation is known, or not any more",
    outcomes.COMPLETED: "it has completed already; nothing was changed",
    outcomes.NOT_COMPLETED: "it has not completed yet, which it must have for this",
    outcomes.JOURNAL_GONE: "its journal is not there any more, so nothing can be repeated",
    outcomes.UNSUPPORTED: "a workflow's run cannot be repeated under another id",
}
_DONE: Final = {
    CANCEL: "it was asked to cancel itself",
    KILL: "killed, and what it had called too",
    PAUSE: "paused",
    RESUME: "it goes on",
    RESTART: "restarted as a new invocation",
    PURGE: "forgotten",
}
_UNCHANGED: Final = {
    CANCEL: "nothing was changed",
    KILL: "nothing was changed",
    PAUSE: "it has no attempt that could be paused; nothing was changed",
    RESUME: "it runs, or waits for its start or a worker; nothing was changed",
    RESTART: "the new invocation was there already",
    PURGE: "nothing was changed",
}


class OperationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked for.

    Attributes:
        deployment: of resume and restart: ``keep``, ``latest`` or a name; None takes the default,
            ``keep`` for resume and ``latest`` for restart.
        from_entry: of restart: the last journal entry that is kept.
        journal_only: of purge.
    """

    ids: list[str]
    deployment: str | None = None
    from_entry: int | None = None
    journal_only: bool = False


class LedOperations(Led, frozen=True, kw_only=True):
    """What became of operations on invocations of one node's partitions."""

    results: list[OperationResult]


class Operator:
    """Carries operations out for admin REST."""

    def __init__(self, view: AdminView, reach: Reach) -> None:
        """Take the node, and how it reaches the others."""
        self._view = view
        self._reach = reach

    def peer_routes(self) -> list[Route]:
        """What other nodes ask."""
        return [Route("POST", f"{LED_PATH}/{{operation}}", self._operate_led)]

    async def operate(self, operation: str, body: bytes) -> OperationAnswer:
        """Do one of `OPERATIONS` to each of the ids. Raises AdminRequestError.

        Cancelling leaves some of it done.
        """
        request = decode_body(body, OperationBody, _form(operation))
        _check(operation, request)
        deployment = self._deployment(request.deployment)
        if operation == RESUME and request.deployment not in (None, KEEP):
            return OperationAnswer(await self._at_leaders(operation, request))
        return OperationAnswer(await self._operate(operation, request, deployment, request.ids))

    async def _operate(
        self,
        operation: str,
        request: OperationBody,
        deployment: Deployment | None,
        ids: Iterable[str],
    ) -> list[OperationResult]:
        pacer = Pacer(asyncio.get_running_loop())
        answers: list[Future[OperationResult]] = []
        for text in dict.fromkeys(ids):
            answers.append(self._begin(operation, text, request, deployment))
            await pacer.pause()
        return [await answer for answer in answers]

    # Where only the leader knows enough ----------------------------------------------------------

    async def _at_leaders(self, operation: str, request: OperationBody) -> list[OperationResult]:
        """Have an operation done by the nodes that lead: for what their workers run counts.

        Done twice, it does no harm: the second time it finds what it was to do done.
        """
        manager = self._view.manager
        results: dict[str, OperationResult] = {}
        wanted: dict[int, list[str]] = {}
        for text in dict.fromkeys(request.ids):
            try:
                partition = manager.processor_of(parse_invocation_id(text)).partition
                wanted.setdefault(partition, []).append(text)
            except MalformedIdError as error:
                results[text] = _result(operation, text, error, None)

        def of(partitions: Iterable[int]) -> OperationBody:
            ids = [text for partition in partitions for text in wanted[partition]]
            return msgspec.structs.replace(request, ids=ids)

        def ask(partitions: list[int]) -> Question:
            query = urlencode({"partitions": partitions_text(partitions)})
            body = msgspec.json.encode(of(partitions))
            return Question("POST", f"{LED_PATH}/{operation}", query, body)

        async def here(partitions: list[int]) -> LedOperations:
            return await self._done_here(operation, of(partitions), partitions)

        gathered = await self._reach.of_partitions(wanted, ask, LedOperations, here)
        for answer in gathered.answers:
            results.update((result.id, result) for result in answer.results)
        for missing in gathered.missing:
            for number in missing.partitions:
                results.update((text, _not_told(text, missing)) for text in wanted[number])
        return [results[text] for text in dict.fromkeys(request.ids)]

    async def _operate_led(self, request: Request) -> LedOperations:
        """What another node asks for. Raises AdminRequestError."""
        (operation,) = request.parts
        partitions = asked_partitions(self._view, Parameters(request.query, ("partitions",)))
        if operation not in OPERATIONS:
            raise AdminRequestError(f"{operation[:64]!r} is none of {', '.join(OPERATIONS)}")
        body = decode_body(request.body, OperationBody, _form(operation))
        _check(operation, body)
        return await self._done_here(operation, body, partitions)

    async def _done_here(
        self, operation: str, request: OperationBody, partitions: Iterable[int]
    ) -> LedOperations:
        """Do it to those of partitions that this node leads. Raises AdminRequestError."""
        manager = self._view.manager
        deployment = self._deployment(request.deployment)
        told = [partition for partition in partitions if not manager.is_elsewhere(partition)]
        ids = [
            text
            for text in request.ids
            if manager.processor_of(parse_invocation_id(text)).partition in told
        ]
        return LedOperations(
            told=told, results=await self._operate(operation, request, deployment, ids)
        )

    def _deployment(self, name: str | None) -> Deployment | None:
        """The deployment that a request names. Raises AdminRequestError."""
        if name in (None, KEEP, LATEST):
            return None
        assert name is not None
        deployment = find_deployment(self._view.manager, name)
        if deployment is None:
            raise AdminRequestError(
                f"deployment={name[:64]!r} is not known: give {KEEP}, {LATEST} or a name that "
                "GET /deployments lists"
            )
        return deployment

    def _begin(
        self, operation: str, text: str, request: OperationBody, deployment: Deployment | None
    ) -> "Future[OperationResult]":
        """Have one begin; the future gets its result and no error."""
        answer: Future[OperationResult] = asyncio.get_running_loop().create_future()
        new_id: InvocationId | None = None

        def settle(outcome: str | PerdureError) -> None:
            if not answer.done():
                answer.set_result(_result(operation, text, outcome, new_id))

        def begin(invocation_id: InvocationId, invocation: Invocation) -> Plain:
            nonlocal new_id
            command = self._command(operation, invocation_id, invocation, request, deployment)
            if isinstance(command, Restart):
                new_id = command.new_id
            return command

        def looked(outcome: InvokeOutcome) -> None:
            """The node that leads has told how the invocation is."""
            if isinstance(outcome, InvocationNotFoundError):
                settle(outcomes.NOT_FOUND)
                return
            if isinstance(outcome, PerdureError):
                settle(outcome)
                return
            assert isinstance(outcome, Answer), outcome
            try:
                command = begin(outcome.invocation_id, outcome.invocation)
                partition_key = partition_key_of(outcome.invocation_id)
                self._view.manager.partition_for(partition_key).operate(command, settle)
            except PerdureError as error:
                settle(error)

        try:
            invocation_id = parse_invocation_id(text)
            manager = self._view.manager
            place = manager.partition_for(partition_key_of(invocation_id))
            if manager.is_elsewhere(place.partition):
                place.output(invocation_id, looked)
                return answer
            found = find(manager, invocation_id)
            if found is None:
                # Not for the log to find out: nothing that is unknown becomes known.
                settle(outcomes.NOT_FOUND)
                return answer
            command = begin(invocation_id, found.invocation)
            if isinstance(command, Resume) and _moves(found, command):
                # It waits for a worker of code that may have none any more: what waits has an
                # attempt, which goes first.
                place.operate(Pause(invocation_id), _nobody_waits)
            place.operate(command, settle)
        except PerdureError as error:
            settle(error)
        return answer

    def _command(
        self,
        operation: str,
        invocation_id: InvocationId,
        invocation: Invocation,
        request: OperationBody,
        deployment: Deployment | None,
    ) -> Plain:
        """The command for one invocation. Raises DeploymentRefusedError or AdminRequestError."""
        if operation == CANCEL:
            return cancel(invocation_id)
        if operation == KILL:
            return Kill(invocation_id)
        if operation == PAUSE:
            return Pause(invocation_id)
        if operation == PURGE:
            return Purge(invocation_id, request.journal_only)
        if deployment is not None:
            _check_offers(deployment, invocation)
        if operation == RESUME:
            return Resume(invocation_id, self._resumed_on(invocation, request, deployment))
        return self._restart(invocation_id, invocation, request, deployment)

    def _resumed_on(
        self, invocation: Invocation, request: OperationBody, deployment: Deployment | None
    ) -> str | None:
        if deployment is not None:
            return deployment.name
        if request.deployment != LATEST:
            return None
        latest = self._view.manager.targets.deployment(invocation.service)
        newest = None if latest is None else find_deployment(self._view.manager, latest)
        if newest is None:
            raise DeploymentRefusedError(
                f"no deployment offers {invocation.service} any more: start a worker that does"
            )
        _check_offers(newest, invocation)
        return newest.name

    def _restart(
        self,
        invocation_id: InvocationId,
        invocation: Invocation,
        request: OperationBody,
        deployment: Deployment | None,
    ) -> Restart:
        manager = self._view.manager
        entry = request.from_entry or 0
        if invocation.entries and not 0 <= entry < invocation.entries:
            raise AdminRequestError(
                f"from_entry={entry} is not in the journal, whose entries are 0 to "
                f"{invocation.entries - 1}"
            )
        name = None if deployment is None else deployment.name
        if request.deployment == KEEP:
            name = invocation.deployment
        handling = manager.targets.handling(invocation.service, invocation.handler)
        completion_ns, journal_ns = handling.retentions_ns(known_again=False)
        return Restart(
            invocation_id,
            manager.minter.unique(invocation_id[:8]),
            entry + 1,
            name,
            completion_ns,
            journal_ns,
        )


def _moves(found: Found, command: Resume) -> bool:
    """Whether a resumption has what waits for a worker wait for another deployment's.

    Raises DeploymentRefusedError when a worker runs it.
    """
    pinned = found.invocation.deployment
    if pinned is None or command.deployment in (None, pinned):
        return False
    if found.status == STATUS_NAMES[STATUS_RUNNING]:
        raise DeploymentRefusedError(
            f"it runs on a worker of {pinned} now: pause it before it goes on on "
            f"{command.deployment}; nothing was changed"
        )
    return found.status == READY


def _nobody_waits(_outcome: str | PerdureError) -> None:
    """The answer to a step of an operation whose last step is answered."""


def _check_offers(deployment: Deployment, invocation: Invocation) -> None:
    """Raise DeploymentRefusedError where a deployment cannot run an invocation."""
    for service in deployment.services:
        if service.name == invocation.service:
            if any(handler.name == invocation.handler for handler in service.handlers):
                return
            break
    raise DeploymentRefusedError(
        f"deployment {deployment.name} has no handler {invocation.service}/{invocation.handler}, "
        "so it cannot run this invocation: take one that has it"
    )


def _form(operation: str) -> str:
    form = '{"ids": [invocation ids]'
    if operation in (RESUME, RESTART):
        form += f', "deployment": "{KEEP}", "{LATEST}" or a name'
    if operation == RESTART:
        form += ', "from_entry": index of the last entry that is kept'
    if operation == PURGE:
        form += ', "journal_only": true or false'
    return form + "}"


def _check(operation: str, request: OperationBody) -> None:
    """Raise AdminRequestError for what the operation does not take."""
    if not 1 <= len(request.ids) <= IDS_MAX:
        raise AdminRequestError(f"ids has {len(request.ids)} items: give 1 to {IDS_MAX}")
    wrong = None
    if request.deployment is not None and operation not in (RESUME, RESTART):
        wrong = "deployment"
    elif request.from_entry is not None and operation != RESTART:
        wrong = "from_entry"
    elif request.journal_only and operation != PURGE:
        wrong = "journal_only"
    if wrong is not None:
        raise AdminRequestError(f"{wrong} is not for {operation}; send {_form(operation)}")


def _not_told(text: str, missing: Missing) -> OperationResult:
    return OperationResult(
        text,
        "refused",
        False,
        f"{missing.message}; whether it was done is unknown: ask again",
        code=missing.code,
    )


def _result(
    operation: str, text: str, outcome: str | PerdureError, new_id: InvocationId | None
) -> OperationResult:
    if isinstance(outcome, PerdureError):
        refused = "malformed id" if isinstance(outcome, MalformedIdError) else "refused"
        return OperationResult(text, refused, False, outcome.message, code=outcome.code)
    if outcome == outcomes.DONE:
        made = None if new_id is None else invocation_id_text(new_id)
        return OperationResult(text, outcome, True, _DONE[operation], new_id=made)
    if outcome == outcomes.UNCHANGED:
        return OperationResult(text, outcome, True, _UNCHANGED[operation])
    return OperationResult(text, outcome, False, _MESSAGES[outcome])
