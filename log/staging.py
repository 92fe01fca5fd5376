"""Staging: what was enqueued in one turn becomes batches within their limits."""

from .types import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Batch, Record


class Staging:
    """Gives out offsets and cuts batches; the groups of `add` are never cut.

    Attributes:
        next_offset: the first offset not given out.
        record_time_ns: of the last batch.
    """

    __slots__ = ("_epoch", "_groups", "_records", "next_offset", "record_time_ns")

    def __init__(self, *, next_offset: int, record_time_ns: int, epoch: int) -> None:
        """Go on at `next_offset`."""
        self.next_offset = next_offset
        self.record_time_ns = record_time_ns
        self._epoch = epoch
        self._records: list[Record] = []
        # Where each group ends, as indices into `_records`.
        self._groups: list[int] = []

    def add(self, records: list[Record]) -> int:
        """Take a group and give the first record's offset."""
        offset = self.next_offset
        self.next_offset = offset + len(records)
        self._records += records
        self._groups.append(len(self._records))
        return offset

    def take(self, now_ns: int) -> list[Batch]:
        """The batches that everything added since the last call makes."""
        records = self._records
        if not records:
            return []
        groups = self._groups
        self._records, self._groups = [], []
        time_ns = self.record_time_ns = max(self.record_time_ns, now_ns)
        first_offset = self.next_offset - len(records)
        if len(records) <= BATCH_RECORDS_MAX:
            size = 0
            for record in records:
                size += len(record.body)
            if size <= BATCH_BYTES_MAX:
                return [Batch(first_offset, time_ns, self._epoch, records)]
        return self._cut(records, groups, first_offset)

    def _cut(self, records: list[Record], groups: list[int], first_offset: int) -> list[Batch]:
        batches: list[Batch] = []
        start = end = size = 0

        def close() -> None:
            batches.append(
                Batch(first_offset + start, self.record_time_ns, self._epoch, records[start:end])
            )

        for group_end in groups:
            group_bytes = sum(len(record.body) for record in records[end:group_end])
            if end > start and (
                group_end - start > BATCH_RECORDS_MAX or size + group_bytes > BATCH_BYTES_MAX
            ):
                close()
                start, size = end, 0
            end = group_end
            size += group_bytes
        close()
        return batches
