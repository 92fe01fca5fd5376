"""An event-sourced account: its state is its events, and each event names the version it rests on.

A withdrawal is decided on a balance; if the account has changed since, the log refuses it. Tellers
work at the same time and never overdraw, without a lock and without a database.

    python examples/log_account.py
"""

import asyncio
import json
import tempfile
from dataclasses import dataclass

from perdure.core.hashing import key_hash
from perdure.core.ids import LogId
from perdure.log import (
    Committed,
    LogEntry,
    LogReader,
    NotChangedSince,
    Record,
    VirtualLog,
    open_logs,
)

CHANGED = 1


@dataclass(frozen=True)
class Account:
    """What the events up to `version` come to."""

    name: str
    balance: int = 0
    version: int = 0
    """The LSN up to which every event of this account was read."""

    @property
    def key(self) -> bytes:
        """What the account's records carry."""
        return key_hash(b"account", self.name.encode())


async def read(log: VirtualLog, account: Account) -> Account:
    """The account as it is now, from where it was read before."""
    balance = account.balance
    tail = (await log.find_tail()).lsn
    async for item in LogReader(log, account.version + 1, to_lsn=tail - 1, keys=[account.key]):
        if isinstance(item, LogEntry):
            balance += json.loads(item.record.body)["amount"]
    return Account(account.name, balance, tail - 1)


async def change(log: VirtualLog, account: Account, amount: int) -> Account | None:
    """Deposit or withdraw; None when there is not enough."""
    while True:
        account = await read(log, account)
        if account.balance + amount < 0:
            return None
        event = Record(CHANGED, json.dumps({"amount": amount}).encode(), keys=(account.key,))
        expected = NotChangedSince(account.key, account.version)
        answer = await log.append([event], conditions=[expected])
        if isinstance(answer, Committed):
            return Account(account.name, account.balance + amount, answer.last_lsn)
        # Somebody else changed the account: what was decided may be wrong now. Decide again.


async def main() -> None:
    """Ten tellers withdraw 30 each from 100."""
    with tempfile.TemporaryDirectory() as directory:
        async with open_logs(directory) as logs:
            log = await logs.open(LogId(0), create=True)
            await log.lead()
            await change(log, Account("ann"), 100)
            results = await asyncio.gather(*(change(log, Account("ann"), -30) for _ in range(10)))
            paid = sum(result is not None for result in results)
            account = await read(log, Account("ann"))
            print(f"{paid} of 10 tellers paid out 30; {account.balance} of 100 are left")
            assert (paid, account.balance) == (3, 10)

        # The events are all there is: opened again, they say the same.
        async with open_logs(directory) as logs:
            account = await read(await logs.open(LogId(0)), Account("ann"))
            assert account.balance == 10
            print(f"after a restart: {account.balance}")


if __name__ == "__main__":
    asyncio.run(main())
