"""What opens an attempt goes in pieces that a worker takes, whatever the clock does."""

from perdure.core.protocol.envelope import REASSEMBLED_BYTES_MAX
from perdure.partition_processor.invoker.attempt_frames import SEGMENT_BYTES_MAX, journal_segments
from perdure.partition_processor.tables.journal import Chunk


def chunks(count: int, size: int) -> list[Chunk]:
    """Chunks of one record time, as they all have after the clock was set back."""
    return [Chunk(7, 1, 1, 1, bytes((number % 256,)) * size) for number in range(count)]


def test_chunks_of_one_record_time_are_joined_only_while_they_are_short() -> None:
    stored = chunks(400, 1_000)
    segments = journal_segments(stored)
    assert b"".join(frames for _, frames in segments) == b"".join(item.frames for item in stored)
    assert {time_ns for time_ns, _ in segments} == {7}
    assert len(segments) < 10
    assert all(len(frames) <= SEGMENT_BYTES_MAX for _, frames in segments)


def test_a_long_journal_of_one_record_time_does_not_exceed_what_a_worker_takes() -> None:
    size = REASSEMBLED_BYTES_MAX // 5 * 2
    segments = journal_segments(chunks(3, size))
    assert [len(frames) for _, frames in segments] == [size] * 3
