"""Random handlers: trees of everything that asyncio and a context offer, drawn from a seed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from random import Random
from typing import Any

from perdure.sdk import Context, Service, TerminalError, as_completed, select, wait_completed

DEPTH_MAX = 4
LEAVES_MAX = 40
LEAVES = (
    "step",
    "step",
    "bad step",
    "sleep",
    "nap",
    "yield",
    "call",
    "bad call",
    "send",
    "signal",
    "awakeable",
    "raise",
    "random",
    "lock",
)
BRANCHES = (
    "sequence",
    "gather",
    "gather exceptions",
    "wait first",
    "wait all",
    "as completed",
    "stdlib as completed",
    "wait completed",
    "select",
    "group",
    "timeout",
    "wait for",
    "task",
    "cancelled task",
    "shield",
    "generator",
    "broken generator",
    "queue",
    "event",
    "semaphore",
    "call in time",
    "try",
)
callee = Service("Callee")


@callee.handler()
async def work(ctx: Context, name: str) -> str:
    return name


class Node:
    """One thing to do, with what is inside of it."""

    def __init__(self, kind: str, number: int, children: list["Node"], seconds: float) -> None:
        self.kind = kind
        self.number = number
        self.children = children
        self.seconds = seconds

    def __repr__(self) -> str:
        inside = f"({', '.join(map(repr, self.children))})" if self.children else ""
        return f"{self.kind.replace(' ', '_')}{self.number}{inside}"


class Graph:
    """A handler that a seed draws.

    Attributes:
        signals: the names of the signals that it may wait for.
        awakeables: how many awakeables it may make.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._count = 0
        self.signals: list[str] = []
        self.awakeables = 0
        children = [self._draw(1) for _ in range(self._random.randint(3, 6))]
        self.root = Node("each in a try", 0, children, 0)
        self.service = Service("Graph")

        async def it(ctx: Context) -> list[Any]:
            run = Run(ctx)
            result = await run.do(self.root)
            return [result, run.trace]

        self.service.handler("it")(it)

    def _draw(self, depth: int) -> Node:
        self._count += 1
        number = self._count
        seconds = self._random.randint(1, 9) / 10
        if depth >= DEPTH_MAX or number > LEAVES_MAX or self._random.random() < 0.25:
            kind = self._random.choice(LEAVES)
            if kind == "signal":
                self.signals.append(f"s{number}")
            self.awakeables += kind == "awakeable"
            return Node(kind, number, [], seconds)
        kind = self._random.choice(BRANCHES)
        children = [self._draw(depth + 1) for _ in range(self._random.randint(1, 3))]
        return Node(kind, number, children, seconds)


class Run:
    """One run of a graph.

    Attributes:
        trace: what happened, in order; a part of the answer, so that replays are held to it.
    """

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.trace: list[Any] = []
        self.lock = asyncio.Lock()
        self.semaphore = asyncio.Semaphore(2)

    async def do(self, node: Node) -> Any:
        """Do a node and what is inside of it."""
        self.trace.append(node.number)
        try:
            act = getattr(self, "_" + node.kind.replace(" ", "_"))
            result = await act(node)
            self.trace.append(-node.number)
            return result
        except BaseException as error:
            self.trace.append(f"{type(error).__name__} {node.number}")
            raise

    def _all(self, node: Node) -> list[Awaitable[Any]]:
        return [self.do(child) for child in node.children]

    def _tasks(self, node: Node) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(self.do(child)) for child in node.children]

    # Leaves

    async def _step(self, node: Node) -> Any:
        return await self.ctx.run(f"step {node.number}", lambda: node.number)

    async def _bad_step(self, node: Node) -> Any:
        def fails() -> None:
            raise TerminalError(f"bad {node.number}")

        await self.ctx.run(f"step {node.number}", fails)

    async def _sleep(self, node: Node) -> Any:
        await self.ctx.sleep(timedelta(seconds=node.seconds))

    async def _nap(self, node: Node) -> Any:
        await asyncio.sleep(node.seconds)
        return asyncio.get_running_loop().time()

    async def _yield(self, node: Node) -> Any:
        await asyncio.sleep(0)

    async def _call(self, node: Node) -> Any:
        future = self.ctx.service_call(work, f"call {node.number}")
        if node.number % 2:
            return [await future.invocation_id(), await future]
        return await future

    async def _bad_call(self, node: Node) -> Any:
        return await self.ctx.service_call(work, "bad")

    async def _send(self, node: Node) -> Any:
        handle = self.ctx.service_send(work, "send")
        if node.number % 2:
            await handle.cancel_invocation()

    async def _signal(self, node: Node) -> Any:
        return await self.ctx.signal(f"s{node.number}", type_hint=int)

    async def _awakeable(self, node: Node) -> Any:
        awakeable_id, future = self.ctx.awakeable(type_hint=int)
        return [awakeable_id, await future]

    async def _raise(self, node: Node) -> Any:
        raise TerminalError(f"raised {node.number}")

    async def _random(self, node: Node) -> Any:
        return [self.ctx.random().random(), str(self.ctx.uuid())]

    async def _lock(self, node: Node) -> Any:
        async with self.lock:
            return await self.ctx.run(f"locked {node.number}", lambda: node.number)

    # Branches

    async def _sequence(self, node: Node) -> Any:
        return [await self.do(child) for child in node.children]

    async def _each_in_a_try(self, node: Node) -> Any:
        results: list[Any] = []
        for child in node.children:
            try:
                results.append(await self.do(child))
            except TerminalError as error:
                results.append(str(error))
        return results

    async def _gather(self, node: Node) -> Any:
        return await asyncio.gather(*self._all(node))

    async def _gather_exceptions(self, node: Node) -> Any:
        return [
            str(each) for each in await asyncio.gather(*self._all(node), return_exceptions=True)
        ]

    async def _wait_first(self, node: Node) -> Any:
        tasks = self._tasks(node)
        done, pending = await asyncio.wait(
            tasks, timeout=node.seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for task in pending:
            task.cancel()
        await asyncio.wait(tasks)
        return [str(task.exception() or task.result()) for task in done if not task.cancelled()]

    async def _wait_all(self, node: Node) -> Any:
        done, _ = await asyncio.wait(self._tasks(node))
        return [str(task.exception() or task.result()) for task in done if not task.cancelled()]

    async def _as_completed(self, node: Node) -> Any:
        return [await future async for future in as_completed(*self._all(node))]

    async def _stdlib_as_completed(self, node: Node) -> Any:
        return [await each for each in asyncio.as_completed(self._tasks(node))]

    async def _wait_completed(self, node: Node) -> Any:
        done, pending = await wait_completed(*self._tasks(node))
        return [len(done), len(pending), await done[0]]

    async def _select(self, node: Node) -> Any:
        named = {f"n{child.number}": self.do(child) for child in node.children}
        return await select(**named)

    async def _group(self, node: Node) -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.do(child)) for child in node.children]
        except* TerminalError as errors:
            self.trace.append([str(error) for error in errors.exceptions])
        return [task.cancelled() or str(task.exception() or task.result()) for task in tasks]

    async def _timeout(self, node: Node) -> Any:
        try:
            async with asyncio.timeout(node.seconds):
                return await self._sequence(node)
        except TimeoutError:
            return "late"

    async def _wait_for(self, node: Node) -> Any:
        try:
            return await asyncio.wait_for(self._gather(node), node.seconds)
        except TimeoutError:
            return "late"

    async def _task(self, node: Node) -> Any:
        first, *rest = self._tasks(node)
        result = await first
        return [result, len(rest)]

    async def _cancelled_task(self, node: Node) -> Any:
        tasks = self._tasks(node)
        await self.ctx.run(f"meanwhile {node.number}", lambda: 0)
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        return [type(each).__name__ for each in done]

    async def _shield(self, node: Node) -> Any:
        return await asyncio.shield(self._sequence(node))

    async def _each(self, node: Node) -> AsyncIterator[Any]:
        try:
            for child in node.children:
                yield await self.do(child)
        finally:
            self.trace.append(f"closed {node.number}")

    async def _generator(self, node: Node) -> Any:
        return [each async for each in self._each(node)]

    async def _broken_generator(self, node: Node) -> Any:
        async for each in self._each(node):
            return each
        return None

    async def _queue(self, node: Node) -> Any:
        queue: asyncio.Queue[Any] = asyncio.Queue(1)

        async def produce(child: Node) -> None:
            try:
                await queue.put(await self.do(child))
            except TerminalError as error:
                await queue.put(str(error))

        async with asyncio.TaskGroup() as group:
            for child in node.children:
                group.create_task(produce(child))
            return [await queue.get() for _ in node.children]

    async def _event(self, node: Node) -> Any:
        event = asyncio.Event()

        async def sets() -> Any:
            try:
                return await self._sequence(node)
            finally:
                event.set()

        task = asyncio.create_task(sets())
        await event.wait()
        return await task

    async def _semaphore(self, node: Node) -> Any:
        async def one(child: Node) -> Any:
            async with self.semaphore:
                return await asyncio.sleep(0, child.number)

        return await asyncio.gather(*map(one, node.children))

    async def _call_in_time(self, node: Node) -> Any:
        limit = timedelta(seconds=node.seconds)
        return await self.ctx.service_call(work, f"call {node.number}", timeout=limit)

    async def _try(self, node: Node) -> Any:
        try:
            return await self._sequence(node)
        except TerminalError as error:
            compensated = await self.ctx.run(f"compensate {node.number}", lambda: 1)
            return [str(error), compensated]
