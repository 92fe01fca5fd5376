"""A node that stops goes on serving until others have announced that they lead."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from perdure.node import cluster_runtime
from perdure.node.cluster_runtime import ClusterRuntime


class Processor:
    """A partition that was led here under epoch 3."""

    partition = 0
    role = "leader"
    epoch = 3
    leader_epoch = 3

    def status(self) -> Any:
        return SimpleNamespace(leader_epoch=self.leader_epoch)


def stopping(processor: Processor) -> ClusterRuntime:
    """A node whose lead is placed elsewhere as soon as it says that it stops."""
    runtime = ClusterRuntime.__new__(ClusterRuntime)

    def leave() -> None:
        processor.role = "follower"

    fields = {
        "joined": True,
        "me": SimpleNamespace(id=1),
        "membership": SimpleNamespace(leave=leave, view=SimpleNamespace(steady=lambda: (1, 2))),
        "watch": SimpleNamespace(placement=SimpleNamespace(led_by=lambda _node: ())),
        "_manager": SimpleNamespace(processors=[processor]),
        "_loop": asyncio.get_running_loop(),
    }
    for name, value in fields.items():
        setattr(runtime, name, cast(Any, value))
    return runtime


def test_it_waits_for_the_next_leaders_announcement() -> None:
    async def main() -> None:
        processor = Processor()
        handing = asyncio.ensure_future(stopping(processor).hand_over(60.0))
        await asyncio.sleep(0.05)
        assert not handing.done(), "nobody has announced that it leads"
        processor.leader_epoch = 4
        async with asyncio.timeout(60):
            await handing

    asyncio.run(main())


@pytest.mark.parametrize("gone", [False, True])
def test_it_does_not_wait_for_ever_nor_for_a_copy_that_is_gone(
    gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        processor = Processor()
        runtime = stopping(processor)
        if gone:
            cast(Any, runtime.membership).leave = lambda: setattr(processor, "role", "absent")
        else:
            monkeypatch.setattr(cluster_runtime, "TAKEN_OVER_SECONDS", 0.05)
        async with asyncio.timeout(60):
            await runtime.hand_over(60.0 if not gone else 10_000.0)

    asyncio.run(main())
