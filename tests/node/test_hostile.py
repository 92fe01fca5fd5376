"""What workers and clients may do wrong: nobody else notices, and nothing waits for ever."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from perdure.core.errors import MalformedMessageError, PerdureError, StorageCorruptError
from perdure.core.hashing import keyed_partition_key
from perdure.core.ids import InvocationId, LogId
from perdure.core.protocol import messages
from perdure.core.protocol.session import (
    HandlerKind,
    HandlerManifest,
    Hello,
    ServiceKind,
    ServiceManifest,
)
from perdure.core.storage.memory import MemoryStore
from perdure.ingress.errors import BadRequestError, OverloadedError
from perdure.ingress.requests import Completed, InvocationRequest, PendingReply, Rejected
from perdure.partition_processor.clients import InvocationIdInUseError
from perdure.proto.generated import service_protocol_pb2 as wire
from perdure.sdk import (
    Context,
    ObjectContext,
    RetryableError,
    Service,
    TerminalError,
    VirtualObject,
    app,
)
from perdure.testing import InProcessNode

from .raw_worker import RawWorker, hello

greeter = Service("Greeter")
counter = VirtualObject("Counter")
blocked: list[asyncio.Event] = []


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


@greeter.handler()
async def far(ctx: Context, days: int) -> str:
    delay = timedelta.max if days < 0 else timedelta(days=days)
    raise RetryableError("later", retry_after=delay)


@greeter.handler()
async def unprintable(ctx: Context, terminal: bool) -> str:
    raise TerminalError("bad \udcff") if terminal else ValueError("bad \udcff")


@counter.handler()
async def add(ctx: ObjectContext, amount: int) -> int:
    count = (await ctx.get("count", type_hint=int) or 0) + amount
    ctx.set("count", count)
    return count


def call(handler: str, body: bytes, service: str = "Greeter", **more: object) -> InvocationRequest:
    fields = {"key": None, **more}
    return InvocationRequest(service, handler, body=body, **fields)  # type: ignore[arg-type]


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("days", [365 * 560, 3_000_000, -1])
def test_a_wait_of_centuries_is_cut_and_the_partition_goes_on(days: int) -> None:
    async def scenario() -> None:
        async with InProcessNode(options=["partitions.count=1"]) as node:
            await node.add_worker(app([greeter]))
            node.submit(call("far", b"%d" % days))
            async with asyncio.timeout(60):
                while not node.engine.manager.partitions()[0].invocations["backing-off"]:
                    await asyncio.sleep(0.001)
            assert node.engine.manager.partitions()[0].role == "leader"
            assert (await node.call("Greeter", "greet", b'"Ann"')).value == b'"Hello Ann"'

    asyncio.run(scenario())


def test_an_error_that_cannot_be_encoded_fails_its_own_call_alone() -> None:
    async def scenario() -> None:
        async with InProcessNode(
            options=["partitions.count=1", "retry.max_attempts=1", "retry.on_max_attempts=kill"]
        ) as node:
            await node.add_worker(app([greeter]))
            bad = [node.submit(call("unprintable", flag)) for flag in (b"false", b"true")]
            good = [node.submit(call("greet", b'"Ann"')) for _ in range(3)]
            for future in good:
                reply = await asyncio.wait_for(future, 60)
                assert isinstance(reply, Completed)
                assert reply.value == b'"Hello Ann"'
            for future in bad:
                reply = await asyncio.wait_for(future, 60)
                assert isinstance(reply, Completed)
                assert reply.failure is not None
                assert reply.failure.message.count("bad") == 1

    asyncio.run(scenario())


def test_an_id_of_another_key_is_refused() -> None:
    async def scenario() -> None:
        async with InProcessNode() as node:
            await node.add_worker(app([counter]))
            strange = InvocationId(bytes(24))
            with pytest.raises(BadRequestError, match="does not belong to key 'k'"):
                node.submit(call("add", b"1", "Counter", key="k", invocation_id=strange))

            own = InvocationId(keyed_partition_key("k").to_bytes(8, "big") + bytes(16))
            for _ in range(2):
                reply = await node.submit(call("add", b"1", "Counter", key="k", invocation_id=own))
                assert isinstance(reply, Completed)
                assert reply.value == b"1"

    asyncio.run(scenario())


def test_an_id_that_is_taken_by_another_target_gives_no_foreign_result() -> None:
    async def scenario() -> None:
        async with InProcessNode() as node:
            await node.add_worker(app([greeter]))
            taken = InvocationId(bytes(24))
            await node.submit(call("greet", b'"secret"', invocation_id=taken))
            reply = await node.submit(call("far", b"1", invocation_id=taken))

            assert isinstance(reply, Rejected)
            assert isinstance(reply.error, InvocationIdInUseError)

    asyncio.run(scenario())


def test_an_empty_idempotency_key_is_refused() -> None:
    async def scenario() -> None:
        async with InProcessNode() as node:
            await node.add_worker(app([greeter]))
            with pytest.raises(BadRequestError, match="idempotency key is empty"):
                node.submit(call("greet", b'"Ann"', idempotency_key=""))

    asyncio.run(scenario())


def test_clients_that_went_away_make_room() -> None:
    async def scenario() -> None:
        options = ["partitions.count=1", "limits.in_flight_max_per_partition=3"]
        async with InProcessNode(options=options) as node:
            await node.add_worker(app([greeter]))
            dispatcher = node.engine.dispatcher
            waiting: list[PendingReply] = [
                dispatcher.call(call("far", b"1"), lambda _reply: None) for _ in range(3)
            ]
            await turns()
            with pytest.raises(OverloadedError):
                node.submit(call("greet", b'"Ann"'))
            for pending in waiting:
                pending.forget()

            assert node.engine.manager.in_flight() == 0
            assert (await node.call("Greeter", "greet", b'"Ann"')).value == b'"Hello Ann"'

    asyncio.run(scenario())


def test_unfinished_work_is_bounded() -> None:
    async def scenario() -> None:
        options = ["partitions.count=1", "limits.active_max_per_partition=2"]
        async with InProcessNode(options=options) as node:
            await node.add_worker(app([greeter]))
            for _ in range(2):
                await node.send("Greeter", "far", b"1")
            with pytest.raises(OverloadedError, match="active_max_per_partition"):
                await node.send("Greeter", "greet", b'"Ann"')

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("greeting", "code"),
    [
        (hello("N" * 70_000), "PD0908"),
        (hello(""), "PD0908"),
        (hello("a/b"), "PD0908"),
        (hello(handlers=("greet", "greet")), "PD0908"),
        (hello(handlers=("gr-eet",)), "PD0908"),
        (hello(attempts_max=0), MalformedMessageError.code),
        (b"\xc1", MalformedMessageError.code),
        (msgspec.msgpack.encode(hello()).replace(b"raw", b"\xff\xfe\xfd"), "PD0204"),
        (msgspec.structs.replace(hello(), protocol_version=5), "PD0905"),
    ],
)
def test_a_worker_that_cannot_be_served_is_told_why(greeting: Hello | bytes, code: str) -> None:
    async def scenario() -> None:
        async with InProcessNode() as node:
            worker = await RawWorker.connect(node, greeting)

            assert (await worker.refusal()).code == code
            assert node.engine.manager.invoker.sessions == []

    asyncio.run(scenario())


def test_other_code_under_a_deployments_name_is_refused() -> None:
    async def scenario() -> None:
        async with InProcessNode() as node:
            await RawWorker.connect(node, hello())
            other = msgspec.structs.replace(hello(), code_hash="other")
            refused = await (await RawWorker.connect(node, other)).refusal()

            assert (refused.code, refused.retryable) == ("PD0903", False)
            assert "--deployment" in refused.message

    asyncio.run(scenario())


def test_a_service_that_became_an_object_is_refused() -> None:
    async def scenario() -> None:
        async with InProcessNode() as node:
            await RawWorker.connect(node, hello())
            handlers = (HandlerManifest("greet", HandlerKind.EXCLUSIVE),)
            changed = ServiceManifest("Greeter", ServiceKind.VIRTUAL_OBJECT, handlers)
            other = msgspec.structs.replace(
                hello(deployment="dp-2"), services=(changed,), code_hash="2"
            )
            refused = await (await RawWorker.connect(node, other)).refusal()

            assert refused.code == "PD0904"

    asyncio.run(scenario())


def test_a_full_worker_does_not_starve_one_that_has_room() -> None:
    async def scenario() -> None:
        async with InProcessNode(options=["partitions.count=1"]) as node:
            small = await RawWorker.connect(node, hello(attempts_max=1))
            large = await RawWorker.connect(node, hello(attempts_max=100))
            await small.hear()
            await large.hear()
            for _ in range(20):
                await node.send("Greeter", "greet", b'"Ann"')
            await turns()

            sessions = node.engine.manager.invoker.sessions
            assert sorted(len(session.attempts) for session in sessions) == [1, 19]

    asyncio.run(scenario())


def test_a_rollback_brings_the_old_handlers_back() -> None:
    async def scenario() -> None:
        async with InProcessNode() as node:
            old = await RawWorker.connect(node, hello(handlers=("old",), deployment="one"))
            await old.hear()
            new = await RawWorker.connect(node, hello(handlers=("new",), deployment="two"))
            await new.hear()
            assert set(node.engine.manager.targets.handlers("Greeter") or ()) == {"new"}

            await new.connection.close()
            await turns()
            assert set(node.engine.manager.targets.handlers("Greeter") or ()) == {"old"}
            await old.connection.close()
            await turns()
            assert set(node.engine.manager.targets.handlers("Greeter") or ()) == {"new"}

    asyncio.run(scenario())


def test_only_records_that_give_or_take_an_attempt_carry_its_key() -> None:
    async def scenario() -> None:
        stores = {name: MemoryStore() for name in ("log", "store", "metadata")}
        async with InProcessNode(stores=dict(stores), options=["partitions.count=1"]) as node:
            worker = await RawWorker.connect(node, hello())
            await worker.hear()
            future = node.submit(call("greet", b'"Ann"'))
            stream = (await worker.hear())[0][0]
            run = wire.RunCommand(result_completion_id=1).SerializeToString()
            proposal = wire.ProposeRunCompletion(result_completion_id=1, value=b"7")
            worker.say(
                stream,
                messages.frame(messages.RUN_COMMAND, run)
                + messages.frame(messages.PROPOSE_RUN_COMPLETION, proposal.SerializeToString()),
            )
            ((_, kind, body),) = await worker.hear()
            assert kind == messages.RUN_COMPLETION
            assert wire.Notification.FromString(body).value.content == b"7"
            output = wire.OutputCommand(value=wire.Value(content=b"1")).SerializeToString()
            worker.say(
                stream,
                messages.frame(messages.OUTPUT_COMMAND, output) + messages.frame(messages.END, b""),
            )
            assert isinstance(await future, Completed)
            log = await node.engine.logs.open(LogId(0))
            records = [record for item in await log.read(1) for record in item.batch.records]

            # Announcement, Invoke, the step, the answer.
            assert [record.keys and len(record.keys) for record in records] == [None, (), (), 1]
            assert [record.sequence for record in records] == [1, 2, 3, 4]

    asyncio.run(scenario())


def test_a_log_behind_its_store_is_an_error_at_start() -> None:
    async def scenario() -> None:
        stores = {name: MemoryStore() for name in ("log", "store", "metadata")}
        async with InProcessNode(stores=dict(stores)) as node:
            await node.add_worker(app([greeter]))
            await node.call("Greeter", "greet", b'"Ann"')
        survivors = {name: store.reopen() for name, store in stores.items()}
        survivors["log"] = MemoryStore()

        with pytest.raises(StorageCorruptError, match="not of one time"):
            async with InProcessNode(stores=dict(survivors)):
                raise PerdureError("the node started")

    asyncio.run(scenario())
