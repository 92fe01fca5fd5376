"""The client of an official app, which knows the URL of the HTTP front door."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import perdure.sdk as restate
from perdure.ingress.http import HttpIngress
from perdure.sdk import HttpError
from perdure.testing.in_process import InProcessNode

from .test_objects import counter, increment
from .test_waiting import asked, outer, ping, wait
from .test_workflows import pay, payment, payment_verified


def test_urls_serve_as_well_as_addresses() -> None:
    """Calls, sends, results, awakeables and failures, by the routes of the HTTP front door."""

    async def main() -> list[Any]:
        async with InProcessNode(options=["partitions.count=2"]) as node:
            await node.add_worker(restate.app([counter, payment, outer]))
            door = HttpIngress(node.engine.dispatcher, stop_grace_seconds=0.2)
            address = await door.start("127.0.0.1:0")
            try:
                async with restate.create_client(f"http://{address}") as client:
                    return await used(client)
            finally:
                await door.stop()

    async def used(client: restate.RestateClient) -> list[Any]:
        gave = [await client.object_call(increment, key="a/ä b", arg=5)]
        delay = timedelta(milliseconds=1)
        handle = await client.object_send(increment, "a/ä b", 5, delay, idempotency_key="once")
        again = await client.object_send(increment, "a/ä b", 5, idempotency_key="once")
        gave.append((handle.status_code, again.status_code))
        gave.append(await client.attach(handle.invocation_id))
        looked_up = await client.lookup(increment, "a/ä b", idempotency_key="once")
        gave.append(looked_up == again.invocation_id)
        run = await client.workflow_send(pay, "w", 1)
        with pytest.raises(HttpError) as early:
            await client.get_output(run.invocation_id)
        await client.workflow_call(payment_verified, "w", "declined")
        with pytest.raises(HttpError) as declined:
            await client.attach(await client.lookup(pay, "w"))
        waiting = await client.service_send(wait, None)
        while waiting.invocation_id not in asked:
            await client.service_call(ping, None)
        await client.resolve_awakeable(asked[waiting.invocation_id], "resolved")
        gave.append(await client.attach(waiting.invocation_id))
        statuses = [(each.value.status_code, each.value.message) for each in (early, declined)]
        return gave + statuses[1:] + [statuses[0][0]]

    assert asyncio.run(main()) == [
        5,
        (202, 200),
        10,
        True,
        "resolved",
        (401, "Payment declined"),
        470,
    ]
