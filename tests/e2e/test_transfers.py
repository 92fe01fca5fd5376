"""SIGKILL of node and worker under transfers between accounts of different partitions.

Money is conserved and every transfer ends, each in the way that its own facts decide.
``PERDURE_E2E_KILLS`` sets the kills, ``PERDURE_E2E_SEED`` repeats the choices of a run.
"""

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from perdure.core.random import SeededRandom

from .cluster import APPS, LOST, Cluster
from .processes import wait_until
from .test_sigkill import KILLS, chosen_seed

ACCOUNTS = [f"account-{number}" for number in range(12)]
OPENING = 100
TRANSFERS = 120


def transfers(seed: int) -> list[dict[str, Any]]:
    """What the clients ask for."""
    random = SeededRandom(seed)
    found: list[dict[str, Any]] = []
    for number in range(1, TRANSFERS + 1):
        source = random.bits(16) % len(ACCOUNTS)
        target = (source + 1 + random.bits(16) % (len(ACCOUNTS) - 1)) % len(ACCOUNTS)
        found.append(
            {
                "number": number,
                "source": ACCOUNTS[source],
                "target": ACCOUNTS[target],
                "amount": 1 + random.bits(16) % 40,
            }
        )
    return found


def send_all(cluster: Cluster, orders: list[dict[str, Any]]) -> None:
    """Send each order until it is taken, whatever happens meanwhile."""
    with cluster.http() as client:
        for order in orders:
            while True:
                try:
                    answer = client.post("/Bank/move/send", order, f"move-{order['number']}")
                    if answer.status == 202:
                        break
                    assert answer.status in (429, 503), answer
                except LOST:
                    pass
                time.sleep(0.02)
            time.sleep(0.01)


def kill_now_and_then(cluster: Cluster, seed: int, sender: threading.Thread) -> int:
    """Kill the node, the worker or both, until all kills are done and all orders are sent."""
    random = SeededRandom(seed + 1)
    kills = 0
    while kills < KILLS or sender.is_alive():
        time.sleep(random.fraction() * 0.5)
        if kills >= KILLS:
            continue
        kills += 1
        whom = random.bits(16) % 3
        if whom != 1:
            assert cluster.node is not None
            cluster.node.kill()
        if whom != 0:
            cluster.workers["worker"].kill()
        if whom != 1:
            cluster.start_node()
        if whom != 0:
            cluster.start_worker(app=APPS / "bank.py")
    return kills


def test_money_is_conserved_and_every_saga_ends(tmp_path: Path) -> None:
    """Kills at any moment, in the midst of calls from one partition to another."""
    seed = chosen_seed()
    print(f"PERDURE_E2E_SEED={seed}")
    orders = transfers(seed)
    with Cluster(tmp_path) as cluster:
        cluster.start_node()
        cluster.start_worker(app=APPS / "bank.py")
        cluster.wait_for_answer()
        with cluster.http() as client:
            for name in ACCOUNTS:
                answer = client.post(f"/Account/{name}/change", OPENING, f"open-{name}")
                assert answer.status == 200, answer
        sender = threading.Thread(target=send_all, args=(cluster, orders), name="sender")
        sender.start()
        kills = kill_now_and_then(cluster, seed, sender)
        sender.join()
        wait_until("every transfer to end", lambda: _quiet(cluster))
        results: dict[int, str] = {}
        with cluster.http() as client:
            for order in orders:
                # The same key is the same transfer: this runs nothing, it gives the result.
                answer = client.post("/Bank/move", order, f"move-{order['number']}")
                assert answer.status == 200, answer
                results[order["number"]] = answer.json()
            balances = {
                name: client.request("POST", f"/Account/{name}/balance").json() for name in ACCOUNTS
            }
        print(f"{kills} kills, results {dict(Counter(results.values()))}")
        expected = dict.fromkeys(ACCOUNTS, OPENING)
        for order in orders:
            if results[order["number"]] == "done":
                expected[order["source"]] -= order["amount"]
                expected[order["target"]] += order["amount"]
            elif order["number"] % 5:
                assert results[order["number"]] == "refused", order
        assert balances == expected
        assert sum(balances.values()) == OPENING * len(ACCOUNTS)
        assert min(balances.values()) >= 0
        assert cluster.node is not None
        assert cluster.node.stop() == 0
        assert "Traceback" not in cluster.node.stderr


def _quiet(cluster: Cluster) -> bool:
    try:
        return all(
            not count
            for row in cluster.partitions()
            for status, count in row["invocations"].items()
            if status != "completed"
        )
    except LOST:
        return False
