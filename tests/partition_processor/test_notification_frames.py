"""Every frame that is written by hand reads with protobuf as what went in, whatever that was."""

import pytest

from perdure.core.ids import invocation_id_text
from perdure.core.protocol import messages
from perdure.core.random import SeededRandom
from perdure.partition_processor import notification_frames
from perdure.partition_processor.tables.invocations import Failure

from ..covering import covers
from .frames import Entry, read_frames, result
from .support import identity

COMPLETIONS = sorted(
    value
    for name, value in vars(messages).items()
    if name.endswith("_COMPLETION") and value >= messages.NOTIFICATION_FIRST
)
TEXTS = ("", "a", "ключ", "🦀", "x" * 127, "x" * 128, "é" * 9_000, "\x00")


class Contents:
    """Random contents, with lengths about the borders of their encoding."""

    def __init__(self, seed: int) -> None:
        self._random = SeededRandom(seed)

    def below(self, count: int) -> int:
        return self._random.bits(32) % count

    def number(self) -> int:
        """At least 1, of any length up to 32 bits."""
        return self._random.bits(1 + self.below(32)) or 1

    def text(self) -> str:
        return TEXTS[self.below(len(TEXTS))]

    def content(self) -> bytes:
        size = (0, 1, 2, 119, 120, 125, 127, 128, 300, 16_384, 70_000)[self.below(11)]
        return bytes(self.below(256) for _ in range(min(size, 3))) + bytes(max(0, size - 3))

    def failure(self) -> Failure:
        metadata = tuple((self.text(), self.text()) for _ in range(self.below(3)))
        code = (0, 1, 127, 128, 409, 500, (1 << 32) - 1)[self.below(7)]
        return Failure(code, self.text(), metadata)

    def value_and_failure(self) -> tuple[bytes | None, Failure | None]:
        which = self.below(3)
        return (
            self.content() if which == 0 else None,
            self.failure() if which == 1 else None,
        )


def one(frame: bytes) -> Entry:
    """The frame, read; there is nothing else."""
    (read,) = read_frames(frame)
    return read


@covers(
    "GET_LAZY_STATE_COMPLETION",
    "GET_PROMISE_COMPLETION",
    "PEEK_PROMISE_COMPLETION",
    "COMPLETE_PROMISE_COMPLETION",
    "SLEEP_COMPLETION",
    "CALL_COMPLETION",
    "RUN_COMPLETION",
    "ATTACH_INVOCATION_COMPLETION",
    "GET_INVOCATION_OUTPUT_COMPLETION",
)
@pytest.mark.parametrize("seed", range(60))
def test_a_completion_reads_as_its_id_and_its_result(seed: int) -> None:
    contents = Contents(seed)
    frame_type = COMPLETIONS[contents.below(len(COMPLETIONS))]
    number = contents.number()
    value, failure = contents.value_and_failure()
    written = notification_frames.result_of(value, failure)
    read = one(notification_frames.completion(frame_type, number, written))

    assert getattr(messages, read.name) == frame_type
    assert read.message.WhichOneof("id") == "completion_id"
    assert read.message.completion_id == number
    assert result(read.message) == (value if failure is None else failure)


def test_a_failure_comes_before_a_value() -> None:
    written = notification_frames.result_of(b"1", Failure(1, "no"))
    read = one(notification_frames.completion(messages.CALL_COMPLETION, 1, written))

    assert result(read.message) == Failure(1, "no")


@covers("SIGNAL")
@pytest.mark.parametrize("seed", range(60))
def test_a_signal_reads_as_its_name_or_its_index_and_what_it_carries(seed: int) -> None:
    contents = Contents(seed)
    name, index = contents.text(), contents.number()
    value, failure = contents.value_and_failure()
    read = one(notification_frames.signal(0 if name else index, name, value, failure))

    assert read.name == "SIGNAL"
    if name:
        assert read.message.WhichOneof("id") == "signal_name"
        assert read.message.signal_name == name
    else:
        assert read.message.WhichOneof("id") == "signal_index"
        assert read.message.signal_index == index
    assert result(read.message) == (value if failure is None else failure)


@covers("CALL_INVOCATION_ID")
@pytest.mark.parametrize("seed", range(10))
def test_the_id_of_a_called_invocation_reads_as_its_text(seed: int) -> None:
    contents = Contents(seed)
    text, number = invocation_id_text(identity(contents.number())), contents.number()
    written = notification_frames.invocation_id_result(text)
    read = one(notification_frames.completion(messages.CALL_INVOCATION_ID, number, written))

    assert (read.message.completion_id, result(read.message)) == (number, text)


@covers("GET_LAZY_STATE_KEYS_COMPLETION")
@pytest.mark.parametrize("seed", range(20))
def test_the_names_of_states_read_as_they_were(seed: int) -> None:
    contents = Contents(seed)
    names = [contents.content() for _ in range((0, 1, 2, 50)[contents.below(4)])]
    written = notification_frames.state_keys_result(names)
    read = one(notification_frames.completion(messages.GET_LAZY_STATE_KEYS_COMPLETION, 1, written))

    assert result(read.message) == names


@covers("INPUT_COMMAND")
@pytest.mark.parametrize("seed", range(40))
def test_an_input_reads_as_its_headers_and_its_body(seed: int) -> None:
    contents = Contents(seed)
    headers = [(contents.text(), contents.text()) for _ in range(contents.below(4))]
    body = contents.content()
    read = one(notification_frames.input_command(headers, body))

    assert read.name == "INPUT_COMMAND"
    assert [(header.key, header.value) for header in read.message.headers] == headers
    assert read.message.HasField("value")
    assert read.message.value.content == body


def test_the_bytes_are_those_that_were_written_ever_since() -> None:
    completion = notification_frames.completion
    result_of = notification_frames.result_of
    assert completion(messages.SLEEP_COMPLETION, 1, result_of(None, None)) == bytes.fromhex(
        "800c00000000000408012200"
    )
    failure = Failure(418, "tea", (("a", "b"),))
    assert completion(messages.CALL_COMPLETION, 300, result_of(None, failure)) == bytes.fromhex(
        "800d00000000001508ac02321008a2031203746561 1a060a0161120162".replace(" ", "")
    )
    assert notification_frames.signal(1, "", None, None) == bytes.fromhex(
        "fbff00000000000410012200"
    )
    assert notification_frames.input_command([], b"") == bytes.fromhex("04000000000000027200")
