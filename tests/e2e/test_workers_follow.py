"""A worker that was given one node finds the others, also those that come later."""

from pathlib import Path

from .cluster import HttpClient
from .node_group import NodeGroup
from .processes import wait_until
from .test_provider_swap import post

KEYS = [f"k{number}" for number in range(16)]


def test_a_worker_of_one_node_works_for_all(tmp_path: Path) -> None:
    with NodeGroup(tmp_path, 3, metadata_servers=("n1",)) as group:
        for name in ("n1", "n2"):
            group.spawn(name)
        group.spawn_worker("counter.py", "n2")
        wait_until("a first answer", group.answers)
        check_added(group, 1)

        third = group.spawn("n3")
        group.wait_until_whole()
        wait_until("the worker to come", lambda: "worker connected" in third.stderr)
        wait_until("the third node to keep something", lambda: kept_by_third(group))
        moved = kept_by_third(group)
        with HttpClient(group.ports["n1"]["admin"]) as client:
            for partition in moved:
                post(client, f"/cluster/partitions/{partition}/move", to="n3")
        wait_until(
            "the third node to lead", lambda: all(group.leader(item) == "n3" for item in moved)
        )
        check_added(group, 2)

        # Nobody needs the one that it was given.
        group.nodes["n2"].kill()
        check_added(group, 3)


def kept_by_third(group: NodeGroup) -> list[int]:
    """The partitions that the third node has a copy of."""
    return [
        row["partition"] for row in group.partitions("n3") if row["role"] in ("follower", "leader")
    ]


def check_added(group: NodeGroup, turn: int) -> None:
    """Add 1 to each counter, by way of the first node, and check what it is then."""
    with group.client_of("n1") as client:
        for key in KEYS:
            answer = client.post(f"/Counter/{key}/add", 1, f"{key} {turn}")
            assert (answer.status, answer.json()) == (200, turn), (key, answer)
