"""Three nodes under load: SIGKILL, SIGSTOP and SIGTERM at random, restarts, and nothing is lost.

Each acked add is counted once, each other at most once, and replicas agree. ``PERDURE_E2E_KILLS``
sets how often something happens to a node, ``PERDURE_E2E_SEED`` repeats the choices of a run.
"""

import os
import time
from pathlib import Path

from perdure.core.random import SeededRandom

from .load import Load, check_all
from .node_group import NodeGroup
from .processes import wait_until
from .test_sigkill import chosen_seed

HAPPENINGS = int(os.environ.get("PERDURE_E2E_KILLS", "4"))
LOAD_SECONDS_MAX = 0.8
DOWN_SECONDS_MAX = 1.0
PAUSE_SECONDS_MAX = 3.0


def happen(group: NodeGroup, random: SeededRandom, what: str) -> None:
    """Have something happen to a node, and bring it back."""
    names = sorted(group.ports)
    name = names[random.bits(32) % len(names)]
    print(f"{what} {name}")
    if what == "pause":
        group.pause(name, random.fraction() * PAUSE_SECONDS_MAX)
        return
    if what == "kill":
        group.nodes[name].kill()
        time.sleep(random.fraction() * DOWN_SECONDS_MAX)
    else:
        assert group.nodes[name].stop() == 0, group.nodes[name].stderr
    group.spawn(name)


def test_nodes_that_die_pause_and_stop_lose_and_double_nothing(tmp_path: Path) -> None:
    seed = chosen_seed()
    print(f"PERDURE_E2E_SEED={seed}")
    random = SeededRandom(seed)
    # Each once in turn, then by chance.
    kinds = ("kill", "stop", "pause")
    with NodeGroup(tmp_path) as group:
        group.start()
        with Load(group, seed) as load:
            for number in range(HAPPENINGS):
                time.sleep(random.fraction() * LOAD_SECONDS_MAX)
                kind = kinds[number if number < len(kinds) else random.bits(32) % len(kinds)]
                happened = time.monotonic()
                happen(group, random, kind)
                load.wait_for_acks(happened)
                # One at a time: two of three that are down leave nobody who may decide.
                group.wait_until_whole()
        print(load.accounts.summary())
        check_all(group, load.accounts)
        wait_until("all replicas to agree", group.replicas_agree)


def test_requests_and_operations_of_any_node_reach_the_leader(tmp_path: Path) -> None:
    with NodeGroup(tmp_path) as group:
        group.start()
        with group.http() as client:
            assert client.post("/Counter/everywhere/add", 1, "once").json() == 1
        for name in group.ports:
            with group.client_of(name) as client:
                # Whoever does not lead the partition forwards; the key makes it one add.
                answer = client.post("/Counter/everywhere/add", 1, "once")
                assert (answer.status, answer.json()) == (200, 1)
        assert group.counter("everywhere") == 1

        # What a worker has told one node of, all of them know.
        group.spawn_worker("bank.py", "n1")
        wait_until(
            "all nodes to know the bank", lambda: all(knows_bank(group, n) for n in group.ports)
        )


def knows_bank(group: NodeGroup, name: str) -> bool:
    """Whether a node takes a call to the service of a worker that was told of n1 alone."""
    with group.client_of(name) as client:
        return client.post("/Account/ann/change/send", 1, "once").status in (200, 202)
