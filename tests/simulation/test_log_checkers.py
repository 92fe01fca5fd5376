"""The checkers of a bare log: each breach of a promise is told from a sound log."""

import pytest

from perdure.core.ids import LogId
from perdure.log.answers import Committed, Conflict, NotChangedSince, StaleSnapshot
from perdure.log.batch_codec import encode_batch
from perdure.log.chain import SegmentParams, chain_key, encode_chain, first_chain, loglet_id
from perdure.log.errors import CorruptBatchError
from perdure.log.reader import FilteredGap, LogEntry, TrimGap
from perdure.log.sequencer import Append
from perdure.log.types import Batch, Record
from perdure.testing.simulation import InvariantViolation, SimulationLoop
from perdure.testing.simulation.chance import Chance
from perdure.testing.simulation.damage import lose_batch
from perdure.testing.simulation.disk import SimulationDisk
from perdure.testing.simulation.log_checkers import check_log_end, check_log_survival
from perdure.testing.simulation.log_history import LogHistory, ReadCheck, Request
from perdure.testing.simulation.observer import BATCH_ROWS, LogObserver, LogRecord
from perdure.testing.simulation.trace import Trace

LOG = LogId(1)
LOGLET = loglet_id(LOG, 1)
KEY, OTHER = b"k" * 16, b"o" * 16
METADATA_HEADER = bytes(10)


class Bench:
    """A log of one segment, written row by row; each append is a batch of its own."""

    def __init__(self) -> None:
        self.disk = SimulationDisk(
            "log", trace=Trace(SimulationLoop()), chance=Chance(1, "disk"), sync_delay_ns_max=0
        )
        self.observer = LogObserver(LOG)
        self.disk.on_write = self.observer.log_written
        self.history = LogHistory(self.observer, lambda: self.disk)
        self.tail = 1
        chain = first_chain("local", SegmentParams(LOGLET, 1, 0, "node"))
        row = b"metadata/" + chain_key(LOG).encode()
        self.observer.metadata_written([(row, METADATA_HEADER + encode_chain(chain))])

    def request(self, client: str = "writer", number: int = 0, records: int = 1) -> Request:
        request = Request(client, number, records)
        self.history.requests.append(request)
        return request

    def write(self, records: list[Record], *, sync: bool = True) -> int:
        batch = Batch(self.tail, self.tail, 1, records)
        key, value = encode_batch(LOGLET, batch)
        self.disk.write([(BATCH_ROWS + key, value)])
        if sync:
            self.disk.sync()
        self.tail += len(records)
        return batch.first_offset

    def conditional(self, request: Request, lsn: int, keys: tuple[bytes, ...] | None) -> Append:
        """The request on the condition that KEY has not changed since `lsn`."""
        append = Append(
            [
                Record(record.kind, record.body, keys, conditions=((KEY, lsn),) * (not number))
                for number, record in enumerate(request.make(keys))
            ],
            (NotChangedSince(KEY, lsn),),
        )
        self.history.sending(request, append)
        return append

    def records(self) -> list[LogRecord]:
        return self.observer.read(self.disk.rows())


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_answer_about_what_is_not_synced_is_found(bench: Bench) -> None:
    request = bench.request()
    append = bench.conditional(request, 0, (KEY,))
    bench.write(append.records, sync=False)

    for answer in (Committed(1, 1), Conflict(KEY, 1), StaleSnapshot(1)):
        with pytest.raises(InvariantViolation, match="what is told is durable"):
            bench.history.told(request, append, answer)
    bench.disk.sync()
    bench.history.told(request, append, Committed(1, 1))


def test_a_conflict_with_a_record_of_another_key_is_found(bench: Bench) -> None:
    bench.write(bench.request("other").make((OTHER,)))
    request = bench.request()
    append = bench.conditional(request, 0, (KEY,))

    with pytest.raises(InvariantViolation, match="a conflict names a record of the key"):
        bench.history.told(request, append, Conflict(KEY, 1))


def test_a_conflict_with_what_the_caller_has_read_is_found(bench: Bench) -> None:
    bench.write(bench.request("other").make((KEY,)))
    request = bench.request()
    append = bench.conditional(request, 1, (KEY,))

    with pytest.raises(InvariantViolation, match="a conflict is newer than the snapshot"):
        bench.history.told(request, append, Conflict(KEY, 1))


def test_an_acknowledgement_of_somebody_elses_record_is_found(bench: Bench) -> None:
    bench.write(bench.request("other").make((KEY,)))
    request = bench.request()
    append = bench.conditional(request, 0, (KEY,))

    with pytest.raises(InvariantViolation, match="what was acknowledged is in the log"):
        bench.history.told(request, append, Committed(1, 1))


@pytest.mark.parametrize("between", [(KEY,), None])
def test_a_record_between_snapshot_and_append_is_found(
    bench: Bench, between: tuple[bytes, ...] | None
) -> None:
    bench.write(bench.request("other").make(between))
    request = bench.request()
    bench.write(bench.conditional(request, 0, (KEY,)).records)

    with pytest.raises(InvariantViolation, match="a condition held"):
        check_log_end(bench.records(), bench.history)


def test_a_record_of_another_key_in_between_is_sound(bench: Bench) -> None:
    bench.write(bench.request("other").make((OTHER,)))
    request = bench.request()
    bench.write(bench.conditional(request, 0, (KEY,)).records)

    check_log_end(bench.records(), bench.history)


def test_a_request_that_is_there_twice_is_found(bench: Bench) -> None:
    request = bench.request()
    bench.write(request.make((KEY,)))
    bench.write(request.make((KEY,)))

    with pytest.raises(InvariantViolation, match="a request commits at most once"):
        check_log_end(bench.records(), bench.history)


def test_a_refused_request_that_is_there_is_found(bench: Bench) -> None:
    request = bench.request()
    request.refused = "Conflict"
    bench.write(request.make((KEY,)))

    with pytest.raises(InvariantViolation, match="what was refused is never in the log"):
        check_log_end(bench.records(), bench.history)


def test_an_append_that_is_torn_is_found(bench: Bench) -> None:
    records = bench.request(records=3).make((KEY,))
    bench.write(records[:2])
    with pytest.raises(InvariantViolation, match="contiguous and whole"):
        check_log_survival([], bench.records(), bench.history)

    bench.write(bench.request("other").make(()))
    bench.write(records[2:])
    with pytest.raises(InvariantViolation, match="contiguous and whole"):
        check_log_end(bench.records(), bench.history)


def test_what_was_read_and_is_gone_after_a_crash_is_found(bench: Bench) -> None:
    bench.write(bench.request().make((KEY,)))
    item = bench.history.show(1, "read")

    with pytest.raises(InvariantViolation, match="what was told stays in the log"):
        check_log_survival([], [], bench.history)
    check_log_survival([item], [item], bench.history)


def test_a_producers_gap_and_its_acknowledged_record_behind_it_are_found(bench: Bench) -> None:
    for number, sequence in ((0, 1), (1, 3)):
        request = bench.request("producer", number)
        request.numbered = request.acknowledged = True
        body = request.make(())[0].body
        bench.write(
            [Record(1, body, producer=b"p" * 16, sequence=sequence, producer_epoch=1)],
        )

    with pytest.raises(InvariantViolation, match="what was acknowledged counts exactly once"):
        check_log_end(bench.records(), bench.history)


def entry_of(item: LogRecord) -> LogEntry:
    return LogEntry(item.lsn, item.record, item.time_ns, item.epoch)


def test_a_reader_that_passes_over_an_lsn_is_found(bench: Bench) -> None:
    for number in range(2):
        bench.write(bench.request(number=number).make((KEY,)))
    first, second = bench.records()
    check = ReadCheck(bench.history, "a reader", 1)

    with pytest.raises(InvariantViolation, match="each LSN is in exactly one item"):
        check.take(entry_of(second))
    check.take(entry_of(first))
    check.take(entry_of(second))
    assert check.next_lsn == 3


def test_a_gap_that_hides_something_is_found(bench: Bench) -> None:
    bench.write(bench.request().make((KEY,)))

    with pytest.raises(InvariantViolation, match="only what may go is trimmed"):
        ReadCheck(bench.history, "a reader", 1).take(TrimGap(1, 1))
    with pytest.raises(InvariantViolation, match="nothing that was asked for is passed over"):
        ReadCheck(bench.history, "a reader", 1, frozenset({KEY})).take(FilteredGap(1, 1))
    ReadCheck(bench.history, "a reader", 1, frozenset({OTHER})).take(FilteredGap(1, 1))


def test_a_lost_batch_is_durable_and_has_a_durable_one_behind_it(bench: Bench) -> None:
    for number in range(4):
        bench.write(bench.request(number=number).make((KEY,)))
    bench.write(bench.request(number=4).make((KEY,)), sync=False)
    before = bench.records()

    damage = lose_batch(bench.disk, bench.observer, Chance(1, "damage"), above_lsn=2)

    assert damage is not None
    assert (damage.loglet, damage.lsns) == (LOGLET, [3])
    assert len(bench.disk.rows()) == 4
    assert bench.records() == before, "what was there is known still"


def test_an_error_about_another_place_is_found(bench: Bench) -> None:
    for number in range(2):
        bench.write(bench.request(number=number).make((KEY,)))
    damage = lose_batch(bench.disk, bench.observer, Chance(1, "damage"))
    assert damage is not None

    with pytest.raises(InvariantViolation, match="an error names the place"):
        damage.explains(CorruptBatchError(LOGLET + 1, 1, "elsewhere"))
    assert not damage.found
    assert damage.explains(CorruptBatchError(LOGLET, 2, "offsets before 2 are missing"))
    assert damage.found
