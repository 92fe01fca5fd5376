"""Each of three processes answers operators for the whole cluster, one of them dead or not."""

import json
import re
from pathlib import Path
from typing import Any

from perdure.core.ids import parse_invocation_id

from .cluster import HttpClient
from .node_group import NodeGroup
from .processes import run_perdure, wait_until

KEYS = [f"key-{number}" for number in range(12)]
SLOW = 8
PATHS = (
    "/invocations?order=oldest",
    "/invocations?status=all&limit=3",
    "/deployments",
    "/services",
    "/logs",
)


def asked(group: NodeGroup, name: str, path: str) -> Any:
    """What a node answers, but for what differs from moment to moment."""
    with HttpClient(group.ports[name]["admin"]) as client:
        answer = client.request("GET", path)
    assert answer.status == 200, (name, path, answer)
    found = answer.json()
    found.pop("now", None)
    return found


def everything(group: NodeGroup, name: str, ids: list[str]) -> Any:
    """All that there is, asked of one node."""
    states = [f"/state?service=Counter&key={key}" for key in KEYS]
    details = [f"/invocations/{text}" for text in ids]
    return {path: asked(group, name, path) for path in (*PATHS, *states, *details)}


def missing_of(answers: Any) -> list[Any]:
    """What any of the answers lacks."""
    return [item for answer in answers.values() for item in answer.get("missing", [])]


def pages(group: NodeGroup, name: str) -> list[str] | None:
    """The ids of all invocations, three at a time; None while something is missing."""
    ids: list[str] = []
    after = ""
    while True:
        page = asked(group, name, f"/invocations?status=all&limit=3{after}")
        if page["missing"]:
            return None
        ids += [row["id"] for row in page["invocations"]]
        if page["next"] is None:
            return ids
        after = f"&after={page['next']}"


def start(group: NodeGroup) -> list[str]:
    """Have some state, and invocations that go on for long; the ids of those."""
    group.start()
    ids = []
    with group.http() as client:
        for number, key in enumerate(KEYS):
            assert client.post(f"/Counter/{key}/add", number, key).json() == number
        for number in range(SLOW):
            sent = client.post("/Greeter/slow/send", 3600, f"slow-{number}")
            assert sent.status == 202, sent
            ids.append(sent.json()["invocationId"])

    def running() -> bool:
        rows = asked(group, "n1", "/invocations")["invocations"]
        return [row["status"] for row in rows] == ["running"] * SLOW

    wait_until("all of them to run", running)
    return ids


def alike(group: NodeGroup, names: list[str], ids: list[str]) -> Any:
    """What these nodes say once it is the same, and lacks nothing.

    Now and then a busy machine has a node wait for so long that the others do without it.
    """
    answers: dict[str, Any] = {}
    listed: dict[str, list[str] | None] = {}

    def same() -> bool:
        answers.update({name: everything(group, name, ids) for name in names})
        listed.update({name: pages(group, name) for name in names})
        whole = None not in listed.values() and not any(map(missing_of, answers.values()))
        return whole and all(answer == answers[names[0]] for answer in answers.values())

    try:
        wait_until("all to say the same, and to lack nothing", same)
    except AssertionError:
        print(json.dumps(answers, indent=1))
        raise
    for found in listed.values():
        assert found is not None
        assert found == sorted(found, key=parse_invocation_id)
    return answers[names[0]] | {"pages": listed[names[0]]}


def change_a_log(group: NodeGroup) -> None:
    """Have a log sealed, opened and trimmed by way of each node, of which one leads it."""
    for name in group.ports:
        admin = ("--admin", f"http://{group.address(name, 'admin')}", "--yes", "-o", "json")
        leader = group.leader(0)
        sealed = json.loads(run_perdure("logs", "seal", "0", *admin).stdout)
        assert not sealed["already_sealed"], (name, sealed)
        opened = json.loads(run_perdure("logs", "reconfigure", "0", *admin).stdout)
        assert opened["was_sealed"], (name, opened)
        assert opened["new"]["segment"] == sealed["segment"] + 1
        assert opened["new"]["sequencer"] == leader, (name, opened)
        beyond = run_perdure("logs", "trim", "0", "1000000", *admin)
        assert (beyond.status, "PD1004" in beyond.stderr) == (1, True), beyond
        trim = ("logs", "trim", "0", "1", *admin)
        wait_until("LSN 1 to be durable", lambda trim=trim: run_perdure(*trim).status == 0)


def test_any_node_answers_for_all_also_while_one_is_dead(tmp_path: Path) -> None:
    options = f"snapshots.directory={tmp_path / 'snapshots'}"
    with NodeGroup(
        tmp_path, 3, options, "cluster.log_repair_after=1h", "log.trim_interval=1s"
    ) as group:
        ids = start(group)
        first = alike(group, list(group.ports), ids)
        rows = first["/invocations?order=oldest"]["invocations"]
        assert [row["id"] for row in rows] == ids
        assert len(first["pages"]) > SLOW + len(KEYS)  # What asked for a first answer, too.
        assert [row["workers"] for row in first["/services"]["services"]] == [1, 1]
        assert [row["pinned"] for row in first["/deployments"]["deployments"]] == [SLOW]
        assert [row["log"] for row in first["/logs"]["logs"]] == [0, 1, 2, 3]
        assert first["/state?service=Counter&key=key-7"]["entries"][0]["value"]["json"] == 7

        for name in group.ports:
            admin = ("--admin", f"http://{group.address(name, 'admin')}", "-o", "json")
            taken = json.loads(run_perdure("snapshots", "create", "--all", *admin).stdout)
            assert {item["status"] for item in taken["snapshots"]} <= {"created", "unchanged"}
            assert [item["partition"] for item in taken["snapshots"]] == [0, 1, 2, 3]
        change_a_log(group)
        for log in range(4):
            tails = [asked(group, name, f"/logs/{log}/tail") for name in group.ports]
            assert tails == [tails[0]] * 3
            records = [asked(group, name, f"/logs/{log}/records") for name in group.ports]
            assert records == [records[0]] * 3
            details = [asked(group, name, f"/logs/{log}") for name in group.ports]
            assert len({item["archived_lsn"] for item in details}) == 1, details

        for name in group.ports:
            with HttpClient(group.ports[name]["admin"]) as client:
                told = client.request("GET", "/metrics").body.decode()
            assert re.search(r"^perdure_log_server_batches_total [1-9]", told, re.MULTILINE)
            assert re.search(r"^perdure_metadata_server_member 1\.0$", told, re.MULTILINE)

        lost = group.leader(0)
        assert lost is not None
        group.nodes[lost].kill()
        left = [name for name in group.ports if name != lost]
        # Whoever is asked before another node leads says what it lacks, or waits.
        answer = asked(group, left[0], "/invocations?order=oldest")
        assert answer["missing"] or [row["id"] for row in answer["invocations"]] == ids
        wait_until("others to lead", lambda: all(group.leader(number) for number in range(4)))
        wait_until(
            "the others to answer for all",
            lambda: all(not missing_of(everything(group, name, [])) for name in left),
        )
        after = alike(group, left, [])
        rows = after["/invocations?order=oldest"]["invocations"]
        assert [row["id"] for row in rows] == ids
        admin = ("--admin", f"http://{group.address(left[1], 'admin')}")
        changed = run_perdure("state", "set", "Counter", KEYS[0], "value", "99", *admin)
        assert changed.status == 0, changed
        shown = run_perdure("state", "get", "Counter", KEYS[0], "value", *admin)
        assert shown.stdout == "99\n", shown
        killed = run_perdure("invocations", "kill", "--service", "Greeter", "--yes", *admin)
        assert killed.stdout.count(" done ") == SLOW, killed
        assert asked(group, left[0], "/invocations")["invocations"] == []
