"""Services and deployments over admin REST, on a real node."""

from perdure.sdk import Context, Service, app

from .jobs import JOBS
from .logs_node import LogsNode, on_logs_node
from .test_invocations_api import act, start, until


def test_services_are_listed_with_their_kind_access_and_workers() -> None:
    async def scenario(node: LogsNode) -> None:
        listed = (await node.get("/services"))["services"]
        rows = {row["name"]: row for row in listed}

        assert list(rows) == ["Counter", "Hidden", "Jobs", "SignUp"]
        assert {name: row["kind"] for name, row in rows.items()} == {
            "Counter": "virtual object",
            "Hidden": "service",
            "Jobs": "service",
            "SignUp": "workflow",
        }
        assert [row["public"] for row in listed] == [True, False, True, True]
        assert rows["Counter"]["handlers"] == ["add", "hold"]
        assert {row["workers"] for row in listed} == {1}

    on_logs_node(scenario, offered=JOBS)


def test_a_service_shows_the_options_that_hold() -> None:
    async def scenario(node: LogsNode) -> None:
        hidden = await node.get("/services/Hidden")
        (handler,) = hidden["handlers"]
        counter = await node.get("/services/Counter")
        unknown = await node.ask("GET", "/services/Nobody")

        assert (hidden["public"], handler["public"], handler["kind"]) == (False, False, "service")
        assert handler["options"]["journal_retention"] == "1h30m"
        assert handler["options"]["retry_max_attempts"] == 9
        assert handler["options"]["on_max_attempts"] == "pause"
        assert handler["documentation"] == "Do nothing."
        assert {item["name"]: item["kind"] for item in counter["handlers"]} == {
            "add": "exclusive",
            "hold": "exclusive",
        }
        assert counter["handlers"][0]["options"]["inactivity_timeout"] == "0s"
        assert counter["handlers"][0]["input"] == "application/json"
        assert (unknown.status, unknown.body["code"]) == (404, "PD1001")
        assert "Counter, Hidden, Jobs, SignUp" in unknown.body["message"]

    on_logs_node(scenario, "retry.max_attempts=9", offered=JOBS)


def test_a_deployment_drains_once_a_newer_one_offers_its_services() -> None:
    async def scenario(node: LogsNode) -> None:
        napping = await start(node, "Jobs", "nap")
        old = (await until(node, napping, "suspended"))["invocation"]["deployment"]
        before = (await node.get(f"/deployments/{old}"))["deployment"]
        newer = Service("Jobs")

        @newer.handler()
        async def nap(ctx: Context) -> None:
            """Do nothing."""

        await node.node.add_worker(app([newer]), name="newer")
        draining = await node.get(f"/deployments/{old}")
        listed = (await node.get("/deployments"))["deployments"]
        unknown = (await node.ask("GET", "/deployments/dp-nowhere")).status

        assert (before["status"], before["workers"], before["pinned"]) == ("active", 1, 1)
        # Of the other services it is still the newest.
        assert draining["deployment"]["status"] == "active"
        assert {item["name"]: item["latest"] for item in draining["services"]} == {
            "Counter": True,
            "Hidden": True,
            "Jobs": False,
            "SignUp": True,
        }
        assert listed[0]["name"] == old
        assert len(listed) == 2
        assert unknown == 404
        assert draining["workers"][0]["leaving"] is False

    on_logs_node(scenario, offered=JOBS)


def test_a_replaced_deployment_is_drained_when_nothing_is_pinned_to_it() -> None:
    async def scenario(node: LogsNode) -> None:
        napping = await start(node, "Jobs", "nap")
        old = (await until(node, napping, "suspended"))["invocation"]["deployment"]
        newer = Service("Jobs")

        @newer.handler()
        async def steps(ctx: Context) -> None:
            """Do nothing."""

        await node.node.add_worker(app([newer]), name="newer")
        pinned = (await node.get(f"/deployments/{old}"))["deployment"]
        await act(node, "kill", napping)
        await until(node, napping, "completed")
        drained = (await node.get(f"/deployments/{old}"))["deployment"]

        assert (pinned["status"], pinned["pinned"]) == ("draining", 1)
        assert (drained["status"], drained["pinned"]) == ("drained", 0)

    jobs_only = app([JOBS.services["Jobs"]])
    on_logs_node(scenario, offered=jobs_only)


def test_partitions_show_what_no_worker_is_there_for() -> None:
    async def scenario(node: LogsNode) -> None:
        await node.node.send("Greeter", "greet", b'"Ann"')
        (row,) = (await node.get("/partitions"))["partitions"]
        assert row["unserved"] == 0
        await node.node.stop_workers()
        await node.node.send("Greeter", "greet", b'"Ann"')
        (row,) = (await node.get("/partitions"))["partitions"]
        assert row["unserved"] == 1

    on_logs_node(scenario)
