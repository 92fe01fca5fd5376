"""Having admin REST of any node answer for the whole cluster.

What concerns one partition is asked of the node that leads it; what concerns many, of all nodes
that lead one, at the same time. A lead that moves meanwhile is waited for. What nobody has told by
then is named in the answer, with the reason, and never just left out.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Generic, TypeVar

import msgspec

from ...core.errors import MalformedMessageError, PerdureError, TransportError
from ...core.pauses import pause
from ...core.tasks import TaskScope
from ...log.errors import NotSequencerError
from ...partition_processor.partition import OutcomeUnknownError
from ...partition_processor.processor import NotLeadingError
from ..elsewhere import AnswerLostError, Forwarded, OtherNodes, Question
from ..errors import AdminRequestError, ClusterNotJoinedError, PeerAnswerError
from ..view import AdminView
from .missing import Missing
from .parameters import Parameters, read_partitions

HOLD_SECONDS: Final = 4.0
"""So long it is tried to find the leader of a partition: more than a death takes to be noticed and
another node to take the lead."""
ANSWER_SECONDS: Final = 5.0
"""So long every node is waited for that is asked for something small."""
CHANGE_SECONDS: Final = 60.0
"""So long the leader of a partition is waited for that is to change something."""
PAUSE_SECONDS: Final = 0.1
"""Between two tries."""
_MOVED: Final = frozenset((NotLeadingError.code, ClusterNotJoinedError.code))
_NOT_CHANGED: Final = _MOVED | {NotSequencerError.code}
"""What a node answers that has changed nothing, as it does not lead."""

_Told = TypeVar("_Told")


class Led(msgspec.Struct, frozen=True, kw_only=True):
    """What one node has told of partitions; answers of many nodes begin with it.

    Attributes:
        told: the partitions that it leads, of those that it was asked for.
    """

    told: list[int]


_OfLed = TypeVar("_OfLed", bound=Led)


def asked_partitions(view: AdminView, parameters: Parameters) -> list[int]:
    """The partitions that another node asks about. Raises AdminRequestError."""
    count = len(view.manager.processors)
    asked = parameters.value("partitions", read_partitions) or []
    if not all(0 <= partition < count for partition in asked):
        raise AdminRequestError(f"partitions has some that do not exist; there are {count}")
    return asked


class Gathered(msgspec.Struct, Generic[_Told], frozen=True):
    """What several nodes have told, and what is missing."""

    answers: list[_Told]
    missing: list[Missing]


class Reach:
    """Where this node's answers come from: itself, and the other nodes of its cluster."""

    def __init__(self, view: AdminView, *, alone: bool = False) -> None:
        """Take the node.

        Args:
            alone: answer with what this node has itself, whoever else there is.
        """
        self._view = view
        self._alone = alone

    @property
    def others(self) -> OtherNodes | None:
        """The other nodes; None where there are none, or none are to be asked."""
        return None if self._alone else self._view.others

    # One partition -------------------------------------------------------------------------------

    async def at_leader(
        self, partition: int, question: Question, here: Callable[[], Awaitable[object]]
    ) -> object:
        """The answer of the node that leads a partition, which is what `here` gives on that node.

        The question may be asked several times: it must do no harm when it comes twice.

        Raises what `here` raises, NotLeadingError when no leader is found in time, TransportError
        when it cannot be reached. Cancelling leaves open whether something was done.
        """
        others = self.others
        if others is None:
            return await here()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HOLD_SECONDS
        while True:
            try:
                if self._led_by(others, partition) == others.me:
                    return await here()
                return await self._ask_leader(others, partition, question)
            except (NotLeadingError, TransportError):
                if loop.time() >= deadline:
                    raise
            await pause(loop, PAUSE_SECONDS)

    async def change_at_leader(
        self, partition: int, question: Question, here: Callable[[], Awaitable[object]]
    ) -> object:
        """Have the node that leads a partition change something, which `here` does on that node.

        A lead that moves is waited for, and what has changed nothing is asked again. A question
        that may have been heard is never sent twice. Asked by another node, this one does it
        itself or refuses, so that no question goes in a circle.

        Raises what `here` raises; NotLeadingError, NotSequencerError or TransportError when no
        leader is reached in time, and nothing was changed; OutcomeUnknownError when the leader was
        lost, or is too slow, after it had been asked. Cancelling leaves open whether it was done.
        """
        others = self._view.others
        if others is None:
            return await here()
        if self._alone:
            if self._led_by(others, partition) != others.me:
                raise _not_led(others.me, partition)
            return await here()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HOLD_SECONDS
        while True:
            try:
                if self._led_by(others, partition) == others.me:
                    return await here()
                return await self._have_changed(others, partition, question)
            except (NotLeadingError, NotSequencerError, _NotAskedError) as error:
                if loop.time() >= deadline:
                    raise _unchanged(partition, error) from None
            await pause(loop, PAUSE_SECONDS)

    async def _have_changed(
        self, others: OtherNodes, partition: int, question: Question
    ) -> Forwarded:
        """Raises NotLeadingError, _NotAskedError, OutcomeUnknownError."""
        node = self._led_by(others, partition)
        if node is None:
            raise NotLeadingError(_no_leader(partition))
        try:
            async with asyncio.timeout(CHANGE_SECONDS):
                answer = await others.ask(node, question)
        except AnswerLostError as error:
            raise _unknown(node, partition, question, str(error)) from None
        except TransportError as error:
            raise _NotAskedError(error.message) from None
        except TimeoutError:
            slow = f"node {node} has not answered within {CHANGE_SECONDS:g} seconds"
            raise _unknown(node, partition, question, slow) from None
        refused = _error_of(answer)
        if refused is not None and refused.remote_code in _NOT_CHANGED:
            raise NotLeadingError(_not_led(node, partition).message)
        return answer

    async def _ask_leader(
        self, others: OtherNodes, partition: int, question: Question
    ) -> Forwarded:
        node = self._led_by(others, partition)
        if node is None:
            raise NotLeadingError(_no_leader(partition))
        answer = await others.ask(node, question)
        moved = _error_of(answer)
        if moved is not None and moved.remote_code in _MOVED:
            raise NotLeadingError(f"node {node} does not lead partition {partition} any more")
        return answer

    def _led_by(self, others: OtherNodes, partition: int) -> str | None:
        if self._view.manager.processors[partition].leading:
            return others.me
        return others.leader(partition)

    # Many partitions -----------------------------------------------------------------------------

    async def of_partitions(
        self,
        partitions: Iterable[int],
        ask: Callable[[list[int]], Question],
        kind: type[_OfLed],
        here: Callable[[list[int]], Awaitable[_OfLed]],
        *,
        hold_seconds: float = HOLD_SECONDS,
    ) -> Gathered[_OfLed]:
        """What the leaders of partitions tell about them.

        Each partition is told by one answer at most. Raises no PerdureError of another node: that
        is in `missing`. Cancelling is safe as far as `here` and the questions are.

        Args:
            ask: the question to another node for some of the partitions.
            kind: of its answer.
            here: the same, asked of this node.
            hold_seconds: how long leaders are waited for.
        """
        wanted = set(partitions)
        others = self.others
        found: list[_OfLed] = []
        problems: dict[int, tuple[str | None, PerdureError]] = {}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (0.0 if others is None else hold_seconds)
        while wanted:
            asked = self._by_leader(others, wanted, problems)
            answers = await _all(
                {
                    node: here(chosen)
                    if others is None or node == others.me
                    else _decoded(others, node, ask(chosen), kind)
                    for node, chosen in asked.items()
                }
            )
            for node, chosen in asked.items():
                answer = answers[node]
                if isinstance(answer, PerdureError):
                    problems.update(dict.fromkeys(chosen, (node, answer)))
                    continue
                found.append(answer)
                wanted -= set(answer.told)
                for partition in wanted.intersection(chosen):
                    problems[partition] = node, _not_led(node, partition)
            if not wanted or loop.time() >= deadline:
                break
            await pause(loop, PAUSE_SECONDS)
        return Gathered(found, _missing({number: problems[number] for number in sorted(wanted)}))

    def _by_leader(
        self,
        others: OtherNodes | None,
        partitions: Iterable[int],
        problems: dict[int, tuple[str | None, PerdureError]],
    ) -> dict[str, list[int]]:
        if others is None:
            return {self._view.node_name: sorted(partitions)}
        asked: dict[str, list[int]] = {}
        for partition in sorted(partitions):
            node = self._led_by(others, partition)
            if node is None:
                problems[partition] = None, NotLeadingError(_no_leader(partition))
            else:
                asked.setdefault(node, []).append(partition)
        return asked

    # Many nodes ----------------------------------------------------------------------------------

    async def of_nodes(
        self, question: Question, kind: type[_Told], here: Callable[[], Awaitable[_Told]]
    ) -> Gathered[_Told]:
        """What every node tells that is not dead; this one's `here` comes first.

        Raises no PerdureError of another node, as `of_partitions`.
        """
        others = self.others
        found = [await here()]
        if others is None:
            return Gathered(found, [])
        answers = await _all(
            {
                node: _quickly(_decoded(others, node, question, kind), node)
                for node in others.alive()
            }
        )
        missing: list[Missing] = []
        for node, answer in answers.items():
            if isinstance(answer, PerdureError):
                missing.append(Missing(node, [], _code(answer), answer.message))
            else:
                found.append(answer)
        return Gathered(found, missing)


async def _all(
    asked: "dict[str, Awaitable[_Told]]",
) -> "dict[str, _Told | PerdureError]":
    """What each of them comes to, all at the same time."""

    async def one(answer: Awaitable[_Told]) -> _Told | PerdureError:
        try:
            return await answer
        except PerdureError as error:
            return error

    if len(asked) == 1:
        # By far the most frequent: a node that is alone.
        return {node: await one(answer) for node, answer in asked.items()}
    async with TaskScope("ask") as scope:
        tasks = {node: scope.spawn(one(answer), name=node) for node, answer in asked.items()}
    return {node: task.result() for node, task in tasks.items()}


async def _quickly(answer: Awaitable[_Told], node: str) -> _Told:
    """What costs a node nothing to tell. Raises TransportError when it does not in time."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await answer
    except TimeoutError:
        raise TransportError(
            f"node {node} has not answered within {ANSWER_SECONDS:g} seconds"
        ) from None


async def _decoded(others: OtherNodes, node: str, question: Question, kind: type[_Told]) -> _Told:
    """Raises TransportError too."""
    return decoded(await others.ask(node, question), kind)


def decoded(answer: Forwarded, kind: type[_Told]) -> _Told:
    """What another node has told. Raises PeerAnswerError, MalformedMessageError."""
    error = _error_of(answer)
    if error is not None:
        raise error
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as problem:
        raise MalformedMessageError(
            f"another node answers with what this release does not know: {problem}"
        ) from None


def _error_of(answer: Forwarded) -> PeerAnswerError | None:
    """The error that another node has answered with."""
    if answer.status < 400:
        return None
    told = msgspec.json.decode(answer.body, type=dict[str, str])
    return PeerAnswerError(told["code"], told["message"])


def _no_leader(partition: int) -> str:
    return (
        f"no node is known to lead partition {partition} now: try again in a moment; "
        "perdure cluster status tells why"
    )


def _not_led(node: str, partition: int) -> NotLeadingError:
    return NotLeadingError(
        f"node {node} does not lead partition {partition} yet, or any more: try again in a moment"
    )


class _NotAskedError(TransportError):
    """The leader could not be asked, so that it has done nothing."""


def _unchanged(partition: int, error: PerdureError) -> PerdureError:
    """The last error of tries that all came to nothing."""
    kind = TransportError if isinstance(error, _NotAskedError) else NotLeadingError
    return kind(
        f"nothing was changed, as the node that leads partition {partition} was not reached: "
        f"{error}"
    )


def _unknown(node: str, partition: int, question: Question, reason: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"{question.method} {question.path} was asked of node {node}, which led partition "
        f"{partition}, and may have been done or not: {reason}. It was not asked again: look how "
        "things are, then ask again if it is needed"
    )


def _missing(problems: "dict[int, tuple[str | None, PerdureError]]") -> list[Missing]:
    """What is missing for one reason, together."""
    found: dict[tuple[str | None, str], Missing] = {}
    for partition, (node, error) in problems.items():
        code = _code(error)
        missing = found.setdefault((node, code), Missing(node, [], code, error.message))
        missing.partitions.append(partition)
    return list(found.values())


def _code(error: PerdureError) -> str:
    return error.remote_code if isinstance(error, PeerAnswerError) else error.code
