"""Requests and replies survive the wire, and what is none is refused."""

import msgspec
import pytest

from perdure.core.errors import MalformedMessageError
from perdure.log.replicated import messages
from perdure.log.replicated.messages import (
    MESSAGE_BYTES,
    Accept,
    Batches,
    Decided,
    Delete,
    Digest,
    Fill,
    Finish,
    GetInfo,
    Info,
    Read,
    Release,
    Reply,
    Request,
    Seal,
    Spans,
    Store,
    Stored,
    StoreResult,
    Trim,
    Wait,
    decode_replies,
    decode_requests,
    encode,
)

REQUESTS: list[Request] = [
    Store("disk", 7, "n1:1:ab", 5, 9, b"value", 3),
    Fill(4, "disk", 7, (2, "n2:1"), [(9, b"value"), (12, b"")]),
    Release("disk", 7, 5),
    GetInfo(1, "disk", 7),
    Wait(2, "disk", 7, 5, 1000),
    Seal(3, "disk", 7, (1, "n1:1")),
    Digest(5, "disk", 7, 1, 9),
    Read(6, "disk", 7, 1, 4096, 3, True),
    Accept(7, "disk", 7, (1, "n1:1"), 9, 12),
    Finish("disk", 7, 9, 12),
    Trim(8, "disk", 7, 3, 11, 9),
    Delete(9, 1 << 32, 1 << 32 | 5),
]
REPLIES: list[Reply] = [
    Stored("disk", 7, 10),
    StoreResult(0, "disk", 7, messages.HOLE, 3),
    Info(1, messages.OK),
    Info(
        2,
        messages.OK,
        9,
        8,
        3,
        12,
        (2, "n2:1"),
        Decided((1, "n1:1"), 9, 12),
        Decided((2, ""), 9, 12),
    ),
    Spans(5, messages.OK, [(1, 3), (4, 4)], 9, 0),
    Batches(6, messages.OK, [(3, b"value"), (4, b"")], 5, 0),
]


def test_what_is_encoded_is_decoded() -> None:
    (requests,) = encode(REQUESTS)
    (replies,) = encode(REPLIES)

    assert decode_requests(requests) == REQUESTS
    assert decode_replies(replies) == REPLIES


def test_every_tag_is_used_once() -> None:
    tags = [
        type(item).__struct_config__.tag
        for item in {type(i): i for i in (*REQUESTS, *REPLIES)}.values()
    ]

    assert len(set(tags)) == len(tags)
    assert {type(item).__name__ for item in REQUESTS} == {
        item.__name__
        for item in Request.__args__  # type: ignore[attr-defined]
    }


def test_long_messages_are_split_in_order() -> None:
    value = bytes(MESSAGE_BYTES // 3)
    requests: list[Request] = [Store("d", 7, "n", 1, item, value) for item in range(10)]
    parts = list(encode(requests))

    assert len(parts) == 4
    assert [item for part in parts for item in decode_requests(part)] == requests


@pytest.mark.parametrize(
    "wrong", [b"", b"\xc1", msgspec.msgpack.encode([[99, 1]]), msgspec.msgpack.encode({"a": 1})]
)
def test_what_is_no_message_is_refused(wrong: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_requests(wrong)
    with pytest.raises(MalformedMessageError):
        decode_replies(wrong)
