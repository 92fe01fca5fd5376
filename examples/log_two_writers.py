"""Two writers race for one key of a log, and exactly one of them wins each round.

Both have read the same log, so both may write; the log lets the first one through and tells the
other what it missed. It reads on, looks at what is there now, and decides again.

    python examples/log_two_writers.py
"""

import asyncio
import tempfile

from perdure.core.hashing import key_hash
from perdure.core.ids import LogId
from perdure.log import (
    Committed,
    Conflict,
    LogEntry,
    LogReader,
    NotChangedSince,
    Record,
    StaleSnapshot,
    VirtualLog,
    open_logs,
)

SEAT = key_hash(b"seat", b"12A")
BOOKED = 1


async def last_booking(log: VirtualLog) -> tuple[str | None, int]:
    """Who has the seat, and how far the log has been read."""
    holder: str | None = None
    tail = (await log.find_tail()).lsn
    async for item in LogReader(log, 1, to_lsn=tail - 1, keys=[SEAT]):
        if isinstance(item, LogEntry):
            holder = item.record.body.decode()
    return holder, tail - 1


async def book(log: VirtualLog, name: str) -> str:
    """Book the seat unless somebody has it; gives who has it in the end."""
    while True:
        holder, read_up_to = await last_booking(log)
        if holder is not None:
            return holder
        await asyncio.sleep(0)  # The other one reads the same, before either has written.
        booking = Record(BOOKED, name.encode(), keys=(SEAT,))
        answer = await log.append([booking], conditions=[NotChangedSince(SEAT, read_up_to)])
        match answer:
            case Committed(first_lsn=lsn):
                print(f"{name}: booked at LSN {lsn}")
                return name
            case Conflict(lsn=lsn):
                print(f"{name}: somebody was first, at LSN {lsn}; reading again")
            case StaleSnapshot(floor=lsn):
                print(f"{name}: have to read on to LSN {lsn} first")
            case _:
                raise AssertionError(answer)


async def main() -> None:
    """Race, then see that both say the same."""
    with tempfile.TemporaryDirectory() as directory:
        async with open_logs(directory) as logs:
            log = await logs.open(LogId(0), create=True)
            await log.lead()
            told = await asyncio.gather(book(log, "Ann"), book(log, "Bob"))
            holder, _ = await last_booking(log)
            print(f"the seat is {holder}'s, and both know it: {told}")
            assert set(told) == {holder}


if __name__ == "__main__":
    asyncio.run(main())
