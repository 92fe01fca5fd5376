"""What a call costs, counted: records, puts, syncs, messages, tasks. Timing is not looked at."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from perdure.core.storage.kv import PutOrDelete
from perdure.core.storage.memory import MemoryStore
from perdure.ingress.requests import Completed, InvocationRequest
from perdure.sdk import Context, ObjectContext, Service, VirtualObject, app
from perdure.testing import InProcessNode

greeter = Service("Greeter")
counter = VirtualObject("Counter")


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    count = (await ctx.get("count", type_hint=int) or 0) + amount
    ctx.set("count", count)
    return count


class CountingStore(MemoryStore):
    """Counts operations by the first byte of their key, which is the table."""

    def __init__(self) -> None:
        super().__init__()
        self.puts_by_table: Counter[bytes] = Counter()
        self.deletes_by_table: Counter[bytes] = Counter()
        self.write_calls = 0
        self.sync_calls = 0

    def write(self, operations: list[PutOrDelete]) -> None:
        self.write_calls += 1
        for key, value in operations:
            (self.deletes_by_table if value is None else self.puts_by_table)[key[:1]] += 1
        super().write(operations)

    def sync(self) -> None:
        self.sync_calls += 1
        super().sync()

    def reset(self) -> None:
        self.puts_by_table.clear()
        self.deletes_by_table.clear()
        self.write_calls = self.sync_calls = 0


class Measurement:
    """Everything that is counted, over some calls of a warm node with one partition."""

    def __init__(self) -> None:
        self.log = CountingStore()
        self.store = CountingStore()
        self.records = 0
        self.batches = 0
        self.messages = 0
        self.tasks = 0
        self.log_syncs = 0
        self.store_syncs = 0

    async def run(self, calls: Callable[[InProcessNode], Awaitable[None]]) -> None:
        """Warm up with one run of `calls`, then count another."""
        stores = {"log": self.log, "store": self.store, "metadata": MemoryStore()}
        async with InProcessNode(
            stores=dict(stores), options=["partitions.count=1", "log.sync_inline=always"]
        ) as node:
            await node.add_worker(app([greeter, counter]))
            await calls(node)
            self.log.reset()
            self.store.reset()
            loop = asyncio.get_running_loop()
            session = node.engine.manager.invoker.sessions[0]
            received = session.received

            def count_message(message: bytes) -> None:
                self.messages += 1
                received(message)

            def count_task(
                loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
            ) -> asyncio.Task[Any]:
                self.tasks += 1
                return asyncio.Task(work, loop=loop, **options)

            session.received = count_message  # type: ignore[method-assign]
            before = node.engine.manager.partitions()[0].applied_lsn
            batches = node.engine.writer.batches
            loop.set_task_factory(count_task)
            await calls(node)
            loop.set_task_factory(None)
            self.records = node.engine.manager.partitions()[0].applied_lsn - before
            self.batches = node.engine.writer.batches - batches
            # Closing the stores syncs them once more, which is no call's cost.
            self.log_syncs = self.log.sync_calls
            self.store_syncs = self.store.sync_calls


def measured(calls: Callable[[InProcessNode], Awaitable[None]]) -> Measurement:
    measurement = Measurement()
    asyncio.run(measurement.run(calls))
    return measurement


def request_of(kind: str, number: int) -> InvocationRequest:
    if kind == "greet":
        return InvocationRequest("Greeter", "greet", None, b'"Ann"')
    return InvocationRequest("Counter", "add", f"key {number}", b"1")


def one_by_one(kind: str, count: int) -> Callable[[InProcessNode], Awaitable[None]]:
    async def calls(node: InProcessNode) -> None:
        for number in range(count):
            assert isinstance(await node.submit(request_of(kind, number)), Completed)

    return calls


def together(kind: str, count: int) -> Callable[[InProcessNode], Awaitable[None]]:
    async def calls(node: InProcessNode) -> None:
        futures = [node.submit(request_of(kind, number)) for number in range(count)]
        for future in futures:
            assert isinstance(await future, Completed)

    return calls


@pytest.mark.parametrize("kind", ["greet", "counter"])
def test_a_plain_call_is_two_records_each_with_its_own_sync_when_alone(kind: str) -> None:
    cost = measured(one_by_one(kind, 10))

    assert cost.records == 20
    assert cost.batches == cost.log_syncs == cost.log.write_calls == 20
    assert cost.store.write_calls == 20
    assert cost.store_syncs == 0
    assert cost.messages == 10


@pytest.mark.parametrize("kind", ["greet", "counter"])
def test_calls_that_come_together_share_batches_syncs_and_messages(kind: str) -> None:
    cost = measured(together(kind, 50))

    assert cost.records == 100
    assert cost.batches == cost.log_syncs == 2
    assert cost.store.write_calls == 2
    assert cost.messages == 1


@pytest.mark.parametrize(
    ("kind", "tables"),
    [
        # Row and active mark at Invoke, row and time to be forgotten at END.
        ("greet", {b"i": 2, b"a": 1, b"x": 1}),
        # The lock and the state besides.
        ("counter", {b"i": 2, b"a": 1, b"x": 1, b"l": 1, b"s": 1}),
    ],
)
def test_a_plain_call_puts_no_table_more_than_twice(kind: str, tables: dict[bytes, int]) -> None:
    cost = measured(one_by_one(kind, 10))
    progress = cost.store.puts_by_table.pop(b"p")

    assert cost.store.puts_by_table == {table: 10 * count for table, count in tables.items()}
    assert progress == cost.store.write_calls
    deletes = {b"a": 10} if kind == "greet" else {b"a": 10, b"l": 10}
    assert cost.store.deletes_by_table == deletes
    assert cost.log.puts_by_table == {b"d": 20}


@pytest.mark.parametrize("kind", ["greet", "counter"])
@pytest.mark.parametrize("calls", [one_by_one, together])
def test_no_task_is_made_per_call(
    kind: str, calls: Callable[[str, int], Callable[[InProcessNode], Awaitable[None]]]
) -> None:
    assert measured(calls(kind, 20)).tasks == 0
