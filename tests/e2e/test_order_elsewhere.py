"""Logs are ordered at other nodes than those that lead them, under load, and these nodes die."""

from pathlib import Path

from .cluster import HttpClient
from .load import Load, check_all
from .node_group import NodeGroup
from .test_provider_swap import post

SEED = 17
LOGS = range(4)
ROUNDS = 3


def order_at(group: NodeGroup, asked: str, sequencer: str) -> int:
    """Have a node order every log; how many of them another one leads."""
    with HttpClient(group.ports[asked]["admin"]) as client:
        for log in LOGS:
            done = post(client, f"/logs/{log}/reconfigure", sequencer=sequencer).json()
            assert done["new"]["sequencer"] == sequencer, done
        shown = [client.request("GET", f"/logs/{log}").json()["segments"][-1] for log in LOGS]
    assert [segment["sequencer"] for segment in shown] == [sequencer] * len(LOGS)
    return sum(group.leader(log) != sequencer for log in LOGS)


def test_the_order_moves_under_load_and_the_node_that_has_it_dies(tmp_path: Path) -> None:
    with NodeGroup(tmp_path, 3) as group:
        group.start()
        with Load(group, SEED) as load:
            moved = 0
            for _ in range(ROUNDS):
                for number, sequencer in enumerate(group.ports):
                    asked = list(group.ports)[number - 1]
                    moved += order_at(group, asked, sequencer)
                    load.wait_for_acks(load.accounts.adds[-1].began)
            assert moved >= ROUNDS * len(LOGS)
            assert not load.accounts.refusals, load.accounts.refusals
            group.nodes["n3"].kill()
            load.wait_for_acks(load.accounts.adds[-1].began)
            group.spawn("n3")
            group.wait_until_whole()
        print(load.accounts.summary())
        check_all(group, load.accounts)
