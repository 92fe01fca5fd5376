"""Logs go from log-servers to the node's own disk and back under load, and nobody notices."""

import json
from pathlib import Path

from .cluster import LOST, Answer, HttpClient
from .load import Load, check_all
from .node_group import NodeGroup
from .processes import wait_until

ROUNDS = 5
SEED = 11
LOGS = range(4)


def reconfigure(client: HttpClient, log: int, kind: str) -> Answer:
    """Have a log go on with a provider."""
    body = json.dumps({"provider": kind}).encode()
    headers = {"content-type": "application/json"}
    return client.request("POST", f"/logs/{log}/reconfigure", body, **headers)


def test_logs_change_their_provider_under_load(tmp_path: Path) -> None:
    alone = ("cluster.replicas=1", "cluster.log_copies=1")
    with NodeGroup(tmp_path, 1, *alone) as group:
        group.start()
        with Load(group, SEED) as load, HttpClient(group.ports["n1"]["admin"]) as client:
            for kind in ("local", "replicated") * ROUNDS:
                for log in LOGS:
                    done = reconfigure(client, log, kind)
                    assert done.status == 200, done
                    assert done.json()["new"]["kind"] == kind, done
                load.wait_for_acks(load.accounts.adds[-1].began)
        assert not load.accounts.refusals, load.accounts.refusals
        longest = max(add.ended - add.began for add in load.accounts.adds)
        print(f"{load.accounts.summary()}; the longest took {longest * 1e3:.0f} ms")
        check_all(group, load.accounts)

        # What lies in both is found again.
        group.nodes["n1"].kill()
        group.spawn("n1")
        group.wait_until_whole()
        check_all(group, load.accounts)


def post(client: HttpClient, path: str, **fields: object) -> Answer:
    """Ask the admin REST for a change that has to be made."""
    headers = {"content-type": "application/json"}
    answer = client.request("POST", path, json.dumps(fields).encode(), **headers)
    assert answer.status == 200, answer
    return answer


def test_another_node_waits_until_it_could_read_every_log(tmp_path: Path) -> None:
    options = (
        *("cluster.replicas=2", "cluster.log_copies=1"),
        *(f"snapshots.directory={tmp_path / 'snapshots'}", "log.trim_interval=50ms"),
    )
    with NodeGroup(tmp_path, 2, *options, metadata_servers=("n1",)) as group:
        group.spawn("n1")
        group.spawn_worker("counter.py", "n1")
        wait_until("the first node to answer", group.answers)
        with HttpClient(group.ports["n1"]["admin"]) as client:
            assert reconfigure(client, 0, "local").status == 200
            keys = [f"k{number}" for number in range(20)]
            for key in keys:
                assert add(group, key) == 1

            group.spawn("n2")
            wait_until("the second node to say what it waits for", lambda: "PD1122" in said(group))
            post(client, "/logs/0/reconfigure", provider="replicated")
            assert "PD1122" in said(group)
            taken = post(client, "/snapshots", partition=0).json()["snapshots"][0]
            lsn = taken["snapshot"]["lsn"]
            wait_until(
                "what was applied to be stored",
                lambda: client.request("GET", "/logs/0").json()["durable_lsn"] >= lsn,
            )
            post(client, "/logs/0/trim", lsn=lsn)
            group.wait_until_whole()

            # From now on there is somebody who is to read it.
            leader = group.leader(0)
            assert leader is not None
            with HttpClient(group.ports[leader]["admin"]) as asked:
                refused = reconfigure(asked, 0, "local")
            assert (refused.status, refused.json()["code"]) == (409, "PD1014"), refused
        assert [group.counter(key) for key in keys] == [1] * len(keys)


def add(group: NodeGroup, key: str) -> object:
    """Add 1 to a counter."""
    with group.client_of("n1") as client:
        return client.post(f"/Counter/{key}/add", 1, key).json()


def said(group: NodeGroup) -> str:
    """What the second node answers about the cluster, empty while it does not listen."""
    try:
        with HttpClient(group.ports["n2"]["admin"]) as client:
            return str(client.request("GET", "/cluster").json())
    except LOST:
        return ""
