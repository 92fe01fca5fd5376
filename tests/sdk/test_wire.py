"""Bodies written by hand are what protobuf writes and what the public transcripts show."""

import pytest

from perdure.core.protocol.messages import frame
from perdure.proto.generated import service_protocol_pb2 as pb
from perdure.sdk import wire

NUMBERS = [0, 1, 127, 128, 300, 2**31]
CONTENTS = [b"", b"x", b'"abc"', b"v" * 125, b"u" * 126, b"y" * 127, b"z" * 128, b"w" * 70_000]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", [None, "a name", "n" * 200])
def test_bodies_equal_those_of_protobuf(content: bytes, name: str | None) -> None:
    """Every body with a value, at lengths on both sides of a varint's border."""
    value = pb.Value(content=content)
    key = b"key"

    assert wire.output_value(content) == pb.OutputCommand(value=value).SerializeToString()
    assert (
        wire.get_eager_state(key, content, name)
        == pb.GetEagerStateCommand(key=key, value=value, name=name or "").SerializeToString()
    )
    assert (
        wire.get_eager_state(key, None, name)
        == pb.GetEagerStateCommand(key=key, void=pb.Void(), name=name or "").SerializeToString()
    )
    assert (
        wire.set_state(key, content, name)
        == pb.SetStateCommand(key=key, value=value, name=name or "").SerializeToString()
    )
    assert (
        wire.clear_state(key, name)
        == pb.ClearStateCommand(key=key, name=name or "").SerializeToString()
    )
    assert (
        wire.propose_run_value(7, content)
        == pb.ProposeRunCompletion(result_completion_id=7, value=content).SerializeToString()
    )


@pytest.mark.parametrize("number", NUMBERS[1:])
def test_numbers_equal_those_of_protobuf(number: int) -> None:
    """Completion ids of every length."""
    assert (
        wire.run(number, "step")
        == pb.RunCommand(result_completion_id=number, name="step").SerializeToString()
    )
    assert (
        wire.get_lazy_state(b"k", number, None)
        == pb.GetLazyStateCommand(key=b"k", result_completion_id=number).SerializeToString()
    )


TRANSCRIPTS = [
    ("0401", wire.output_value(b'"Hello Ann"'), "0000000f720d0a0b2248656c6c6f20416e6e22"),
    (
        "0401",
        wire.output_failure(wire.failure(418, "boom t")),
        "0000000d7a0b08a2031206626f6f6d2074",
    ),
    ("0411", wire.run(1, "my-side-effect"), "00000012 5801 620e6d792d736964652d656666656374"),
    ("0005", wire.propose_run_value(1, b'"abc"'), "00000009 0801 72052261626322"),
    ("0407", wire.get_eager_state(b"c", b"5", None), "00000008 0a0163 72030a0135"),
    ("0407", wire.get_eager_state(b"c", None, None), "00000005 0a0163 6a00"),
    ("0403", wire.set_state(b"c", b"6", None), "00000008 0a0163 1a030a0136"),
    ("0404", wire.clear_state(b"c", None), "00000003 0a0163"),
    ("0402", wire.get_lazy_state(b"c", 1, None), "00000005 0a0163 5801"),
]


@pytest.mark.parametrize(("kind", "body", "expected"), TRANSCRIPTS)
def test_frames_equal_the_transcripts(kind: str, body: bytes, expected: str) -> None:
    """The bytes that were captured from other programs of the protocol."""
    written = frame(int(kind, 16), body)

    assert written == bytes.fromhex(f"{kind}0000{expected}")


def test_end_equals_the_transcript() -> None:
    """The last frame of every answer."""
    assert wire.END_FRAME.hex() == "0003000000000000"
