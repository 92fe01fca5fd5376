"""Whatever is wrong with a message, whoever decodes it hears of one error."""

import msgspec
import pytest

from perdure.core.errors import MalformedMessageError
from perdure.core.net.decoding import decode_sent


class Note(msgspec.Struct, array_like=True):
    number: int
    text: str


DECODE = msgspec.msgpack.Decoder(Note).decode


def test_message_is_decoded() -> None:
    assert decode_sent(DECODE, msgspec.msgpack.encode(Note(1, "x")), "no note") == Note(1, "x")


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x92\x01\xa1\xff", id="not UTF-8"),
        pytest.param(b"\x92\xa1x\x01", id="fields of other types"),
        pytest.param(b"\x93\x01\xa1x" + b"\x91" * 100_000, id="nested too deeply where skipped"),
    ],
)
def test_what_makes_no_sense_is_malformed(message: bytes) -> None:
    with pytest.raises(MalformedMessageError, match=r"^no note: .+\. Ask again$"):
        decode_sent(DECODE, message, "no note", "Ask again")
