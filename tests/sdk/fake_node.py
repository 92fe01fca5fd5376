"""A scripted node: builds the frames that a node sends and reads the worker's answers."""

import inspect
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure.core.protocol import messages
from perdure.core.protocol.messages import frame, split_frames
from perdure.proto.generated import service_protocol_pb2 as pb
from perdure.sdk.attempt import Attempt
from perdure.sdk.blocking import BlockingRun
from perdure.sdk.service import Service, VirtualObject
from perdure.sdk.steps import Step

INVOCATION_ID = bytes(range(24))
SEED = 42

BODIES: dict[int, Any] = {
    messages.ERROR: pb.Error,
    messages.SUSPENSION: pb.Suspension,
    messages.PROPOSE_RUN_COMPLETION: pb.ProposeRunCompletion,
    messages.OUTPUT_COMMAND: pb.OutputCommand,
    messages.GET_LAZY_STATE_COMMAND: pb.GetLazyStateCommand,
    messages.SET_STATE_COMMAND: pb.SetStateCommand,
    messages.CLEAR_STATE_COMMAND: pb.ClearStateCommand,
    messages.CLEAR_ALL_STATE_COMMAND: pb.ClearAllStateCommand,
    messages.GET_LAZY_STATE_KEYS_COMMAND: pb.GetLazyStateKeysCommand,
    messages.GET_EAGER_STATE_COMMAND: pb.GetEagerStateCommand,
    messages.GET_EAGER_STATE_KEYS_COMMAND: pb.GetEagerStateKeysCommand,
    messages.GET_PROMISE_COMMAND: pb.GetPromiseCommand,
    messages.PEEK_PROMISE_COMMAND: pb.PeekPromiseCommand,
    messages.COMPLETE_PROMISE_COMMAND: pb.CompletePromiseCommand,
    messages.SLEEP_COMMAND: pb.SleepCommand,
    messages.CALL_COMMAND: pb.CallCommand,
    messages.ONE_WAY_CALL_COMMAND: pb.OneWayCallCommand,
    messages.SEND_SIGNAL_COMMAND: pb.SendSignalCommand,
    messages.RUN_COMMAND: pb.RunCommand,
    messages.ATTACH_INVOCATION_COMMAND: pb.AttachInvocationCommand,
    messages.GET_INVOCATION_OUTPUT_COMMAND: pb.GetInvocationOutputCommand,
    messages.COMPLETE_AWAKEABLE_COMMAND: pb.CompleteAwakeableCommand,
    messages.END: pb.End,
}

Frame = tuple[int, bytes]


def frames_of(data: bytes) -> list[Frame]:
    """(type, body) of each frame."""
    return [(kind, data[start:end]) for kind, start, end in split_frames(data)]


def parsed(one: Frame) -> Any:
    """The body of a frame as a protobuf message."""
    return BODIES[one[0]].FromString(one[1])


def types_of(frames: Sequence[Frame]) -> list[int]:
    """The types of frames."""
    return [kind for kind, _body in frames]


def input_frame(body: bytes) -> bytes:
    """The Input command."""
    command = pb.InputCommand(value=pb.Value(content=body))
    return frame(messages.INPUT_COMMAND, command.SerializeToString())


def start_frame(known_entries: int, state: dict[str, bytes] | None = None, **fields: Any) -> bytes:
    """The Start message; without `state` the map is partial and empty."""
    start = pb.Start(
        id=INVOCATION_ID,
        known_entries=known_entries,
        partial_state=fields.pop("partial_state", state is None),
        random_seed=SEED,
        **fields,
    )
    for key, value in (state or {}).items():
        start.state_map.append(pb.Start.StateEntry(key=key.encode(), value=value))
    return frame(messages.START, start.SerializeToString())


def note(kind: int, completion_id: int, **result: Any) -> bytes:
    """A notification of a completion: value=b"…", failure=(code, message), or a field of it."""
    return _notification(kind, pb.Notification(completion_id=completion_id), result)


def signal(key: int | str, **result: Any) -> bytes:
    """A signal, by number or name."""
    what = pb.Notification()
    if isinstance(key, int):
        what.signal_index = key
    else:
        what.signal_name = key
    return _notification(messages.SIGNAL, what, result)


def _notification(kind: int, what: pb.Notification, result: dict[str, Any]) -> bytes:
    if "value" in result:
        what.value.content = result["value"]
    elif "failure" in result:
        what.failure.code, what.failure.message = result["failure"]
    elif "invocation_id" in result:
        what.invocation_id = result["invocation_id"]
    elif "state_keys" in result:
        what.state_keys.keys.extend(result["state_keys"])
    else:
        what.void.SetInParent()
    return frame(kind, what.SerializeToString())


SUSPEND = frame(messages.SUSPEND, b"")
CANCEL = signal(messages.SIGNAL_CANCEL)


def run_completion(completion_id: int, value: bytes) -> bytes:
    """The notification of a step's result."""
    note = pb.Notification(completion_id=completion_id, value=pb.Value(content=value))
    return frame(messages.RUN_COMPLETION, note.SerializeToString())


def run_failure(completion_id: int, code: int, message: str) -> bytes:
    """The notification of a step's failure."""
    failure = pb.Failure(code=code, message=message)
    note = pb.Notification(completion_id=completion_id, failure=failure)
    return frame(messages.RUN_COMPLETION, note.SerializeToString())


def is_command(kind: int) -> bool:
    """Whether a message type takes a command index in the journal."""
    return messages.COMMAND_FIRST <= kind <= messages.COMMAND_LAST


@dataclass
class Journal:
    """What a node would have stored: the entries after the Input, as whole frames."""

    body: bytes = b""
    entries: list[bytes] = field(default_factory=list)
    state: dict[str, bytes] | None = None

    def opening(self, **fields: Any) -> bytes:
        """The frames that an attempt begins with."""
        return (
            start_frame(1 + len(self.entries), self.state, **fields)
            + input_frame(self.body)
            + b"".join(self.entries)
        )

    def take(self, answer: bytes) -> list[bytes]:
        """Store the commands of an answer; returns the notifications that its proposals cause."""
        notes = []
        for kind, body in frames_of(answer):
            if is_command(kind):
                self.entries.append(frame(kind, body))
                if kind == messages.SET_STATE_COMMAND and self.state is not None:
                    command = pb.SetStateCommand.FromString(body)
                    self.state[command.key.decode()] = command.value.content
            elif kind == messages.PROPOSE_RUN_COMPLETION:
                proposal = pb.ProposeRunCompletion.FromString(body)
                if proposal.HasField("failure"):
                    failed = proposal.failure
                    note = run_failure(proposal.result_completion_id, failed.code, failed.message)
                else:
                    note = run_completion(proposal.result_completion_id, proposal.value)
                notes.append(note)
        return notes


class InlineHost:
    """Runs steps when told to, on the calling thread, and keeps what attempts send meanwhile."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.time_ns = 0
        self.cancelled: list[Step] = []
        self.sent: list[bytes] = []

    def admit(self, attempt: Attempt) -> bool:
        return True

    def superseded(self, attempt: Attempt) -> None:
        raise AssertionError("no newer attempts here")

    def start_step(self, step: Step) -> None:
        self.steps.append(step)

    def cancel_step(self, step: Step) -> None:
        self.cancelled.append(step)

    def handler_turn(self, run: BlockingRun) -> None:
        raise AssertionError("no `def` handlers here")

    def forget_handler(self, run: BlockingRun) -> None:
        raise AssertionError("no `def` handlers here")

    def node_time_ns(self) -> int:
        return self.time_ns

    def output_ready(self, attempt: Attempt) -> None:
        self.sent.append(attempt.take_output())

    def run_steps(self, order: Callable[[list[Step]], list[Step]] = list) -> bytes:
        """Run all started steps; returns what their attempts send."""
        steps, self.steps = order(self.steps), []
        for step in steps:
            value, error = None, None
            try:
                value = step.variables.run(step.action, *step.arguments, **step.keywords)
                if inspect.iscoroutine(value):
                    value = drive(value)
            except BaseException as raised:
                error = raised
            step.attempt.finish_step(step, value, error, 0)
        sent, self.sent = b"".join(self.sent), []
        return sent


def drive(coroutine: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as ending:
        return ending.value
    raise AssertionError("the closure waits for something")


def attempt_of(
    service: Service | VirtualObject, handler: str, host: InlineHost | None = None
) -> tuple[Attempt, InlineHost]:
    """A new attempt of a handler and its host."""
    host = InlineHost() if host is None else host
    return Attempt(service.handlers[handler], host), host


def to_the_end(
    service: Service | VirtualObject, handler: str, journal: Journal, **options: Any
) -> list[Frame]:
    """Run an invocation to its end, growing `journal`; returns every frame that it sent."""
    attempt, host = attempt_of(service, handler)
    sent = attempt.feed(journal.opening())
    everything = sent
    for _ in range(1000):
        notes = journal.take(sent)
        if attempt.ended:
            return frames_of(everything)
        if notes:
            journal.entries.extend(notes)
            sent = attempt.feed(b"".join(notes))
        else:
            sent = host.run_steps(**options)
        everything += sent
    raise AssertionError("the invocation does not end")


def handler_of(function: Callable[..., Coroutine[Any, Any, Any]]) -> Service:
    """A service with one handler named ``it``."""
    service = Service("Service")
    service.handler("it")(function)
    return service


def output_of(function: Callable[..., Coroutine[Any, Any, Any]], **options: Any) -> bytes:
    """What a handler returns when its steps are run."""
    sent = to_the_end(handler_of(function), "it", Journal(), **options)
    assert types_of(sent)[-2:] == [messages.OUTPUT_COMMAND, messages.END], sent
    value: bytes = parsed(sent[-2]).value.content
    return value


def error_of(function: Callable[..., Coroutine[Any, Any, Any]]) -> str:
    """The message of the Error that a handler ends with."""
    sent = to_the_end(handler_of(function), "it", Journal())
    assert types_of(sent)[-1] == messages.ERROR, sent
    message: str = parsed(sent[-1]).message
    return message
