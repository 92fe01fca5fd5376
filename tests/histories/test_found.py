"""What generated histories have found, each in its smallest form."""

from collections.abc import Iterator

import pytest

from perdure.core.ids import InvocationId
from perdure.partition_processor.records import KIND_SERVICE, Resume
from perdure.partition_processor.tables.invocations import STATUS_COMPLETED
from perdure.testing.histories.history import History, HistoryOptions
from perdure.testing.histories.programs import Request


class Story:
    """A history that is moved by hand."""

    def __init__(self) -> None:
        self.history = History(1, HistoryOptions(faults=False))
        self.history._requests.clear()
        self.settle()

    def settle(self) -> None:
        """Do all that can be done without any time passing."""
        while moves := self.history._moves():
            moves[0]()

    def begin(self, request: Request) -> InvocationId:
        """Have an invocation run; what its worker sends first is under way to the node."""
        history = self.history
        client = history.outside.add(request)
        client.ask(history.node)
        self.commit()
        history.node.loop.turn()
        for worker in history._workers:
            assert worker.link is not None
            while worker.link.to_worker:
                worker.receive()
        return client.command.invocation_id

    def deliver(self) -> None:
        """Let everything that is under way to the node arrive."""
        for number, worker in enumerate(self.history._workers):
            assert worker.link is not None
            while worker.link.to_node:
                self.history._deliver(number)

    def commit(self) -> None:
        """Commit everything that is in flight, as one batch per log."""
        for log in self.history.logs:
            if log.in_flight:
                log.commit(len(log.in_flight))
        self.history.node.finish_turn()

    def status(self, invocation_id: InvocationId) -> int:
        """The invocation's, by the log."""
        return next(
            each.invocations[invocation_id].status
            for each in self.history.observers
            if invocation_id in each.invocations
        )


@pytest.fixture
def story() -> Iterator[Story]:
    story = Story()
    yield story
    story.history.close()


def test_a_resume_in_vain_does_not_leave_the_running_attempt_without_a_worker(
    story: Story,
) -> None:
    """It carries the attempt key, so the log refuses what the attempt writes meanwhile."""
    step = ["step", 0, False, False, 0]
    running = story.begin(Request("Plain", "run", None, None, KIND_SERVICE, [step]))
    processor = story.history.node.processor_of(running)
    outcomes: list[object] = []
    for _ in range(2):
        processor.operate(Resume(running), outcomes.append)
    story.deliver()
    story.settle()

    assert outcomes == ["unchanged", "unchanged"]
    assert processor.keeper.superseded > 0
    for _ in range(3):
        story.history._pass_time(10**9)
        story.settle()
    assert story.status(running) == STATUS_COMPLETED
