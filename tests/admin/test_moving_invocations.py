"""Having invocations that began with older code go on with newer, over admin REST."""

import asyncio
from datetime import timedelta

from perdure.sdk import Context, Service, app

from .logs_node import LogsNode
from .test_invocations_api import act, on_jobs, start, until

HOUR_NS = 3_600_000_000_000


def test_what_waits_for_a_worker_of_older_code_goes_on_with_newer() -> None:
    async def scenario(node: LogsNode) -> None:
        changed = Service("Jobs")

        @changed.handler()
        async def nap(ctx: Context) -> str:
            """The same entries, another answer."""
            await ctx.sleep(timedelta(hours=1))
            return "of newer code"

        napping = await start(node, "Jobs", "nap")
        pinned = (await until(node, napping, "suspended"))["invocation"]["deployment"]
        await node.node.stop_workers()
        node.clock.advance(2 * HOUR_NS)
        await until(node, napping, "ready")
        await node.node.add_worker(app([changed]), name="newer")
        (kept,) = await act(node, "resume", napping)
        still = await until(node, napping, "ready")
        (moved,) = await act(node, "resume", napping, deployment="latest")
        done = await until(node, napping, "completed")

        assert (kept["outcome"], moved["outcome"]) == ("unchanged", "done")
        assert "waits for its start or a worker" in kept["message"]
        assert still["invocation"]["deployment"] == pinned != done["invocation"]["deployment"]
        assert done["invocation"]["failure"] is None

    on_jobs(scenario)


def test_what_runs_on_a_worker_is_not_moved_under_it() -> None:
    async def scenario(node: LogsNode) -> None:
        holding, let_go = asyncio.Event(), asyncio.Event()
        busy = Service("Hidden")

        async def hold() -> None:
            holding.set()
            await let_go.wait()

        @busy.handler()
        async def work(ctx: Context) -> None:
            await ctx.run_typed("first", lambda: 1)
            await ctx.run_typed("hold", hold)

        await node.node.add_worker(app([busy]), name="busy")
        listed = (await node.get("/deployments"))["deployments"]
        (other,) = (row["name"] for row in listed if "Jobs" in row["services"])
        working = await start(node, "Hidden", "work")
        await holding.wait()
        (refused,) = await act(node, "resume", working, deployment=other)
        let_go.set()
        done = await until(node, working, "completed")

        assert (refused["outcome"], refused["code"]) == ("refused", "PD1008")
        assert "runs on a worker" in refused["message"]
        assert "pause it" in refused["message"]
        assert [event["kind"] for event in done["events"]] == []

    on_jobs(scenario)
