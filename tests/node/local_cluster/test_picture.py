"""What nodes answer, put together: disagreement, silence, rates."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from perdure.core.clock import ManualClock
from perdure.node.local_cluster.answers import (
    ClusterAnswer,
    MemberAnswer,
    PartitionAnswer,
    Seen,
    ask_node,
    committed_records,
)
from perdure.node.local_cluster.picture import (
    PartitionPicture,
    merge_partitions,
    merge_states,
    merge_warnings,
)
from perdure.node.local_cluster.watch import FRESH_SECONDS, Watch

SECOND = 1_000_000_000


def says(me: str, *rows: PartitionAnswer, **members: str) -> ClusterAnswer:
    nodes = tuple(MemberAnswer(name, state) for name, state in members.items())
    return ClusterAnswer("local", me, nodes, rows, (f"{me} warns", "all warn"))


def row(
    leader: str | None, role: str, epoch: int, applied: int = 0, lag: int = 0
) -> PartitionAnswer:
    return PartitionAnswer(0, leader, ("n1", "n2"), role, epoch, applied, lag)


def merged(**rows: PartitionAnswer) -> PartitionPicture:
    [partition] = merge_partitions({name: says(name, each) for name, each in rows.items()})
    return partition


def test_leader_of_the_highest_epoch_is_believed() -> None:
    partition = merged(
        n1=row("n1", "leader", 3, 90), n2=row("n2", "leader", 4, 80), n3=row("n1", "absent", 3)
    )

    assert (partition.leader, partition.leads_now, partition.epoch) == ("n2", True, 4)


def test_leader_itself_is_believed_before_those_who_speak_of_it() -> None:
    partition = merged(n1=row("n1", "leader", 3, 7), n2=row("n1", "follower", 3, 9))

    assert (partition.leads_now, partition.applied_lsn) == (True, 7)


def test_who_leads_does_so_until_the_one_that_is_to_lead_has_a_higher_epoch() -> None:
    before = merged(n1=row("n2", "leader", 3), n2=row("n2", "follower", 3))
    after = merged(n1=row("n2", "leader", 3), n2=row("n2", "leader", 4))

    assert [(each.leader, each.leads_now) for each in (before, after)] == [
        ("n1", True),
        ("n2", True),
    ]


def test_leader_that_has_not_said_so_does_not_lead_yet() -> None:
    partition = merged(n1=row("n2", "follower", 4), n2=row("n2", "candidate", 4))

    assert (partition.leader, partition.leads_now) == ("n2", False)


def test_leader_that_has_ended_is_none() -> None:
    partition = merged(n1=row("n2", "follower", 4))

    assert (partition.leader, partition.leads_now) == (None, False)


def test_lag_is_that_of_the_replica_furthest_behind() -> None:
    behind = merged(n1=row("n1", "leader", 3, 50), n2=row("n1", "follower", 3, 38, 12))
    cut_off = merged(n1=row("n1", "leader", 3, 50), n2=row("n1", "follower", 3, 40, 0))
    elsewhere = merged(n1=row("n1", "leader", 3, 50), n3=row("n1", "absent", 3, 0, 0))

    assert (behind.lag, cut_off.lag, elsewhere.lag) == (12, 10, 0)


def test_worst_that_others_say_of_a_node_is_shown() -> None:
    answers = [
        says("n1", n1="dead", n2="alive", n3="suspect"),
        says("n2", n1="alive", n2="dead", n3="dead"),
    ]

    assert merge_states(answers) == {"n1": "alive", "n2": "alive", "n3": "dead"}
    assert merge_warnings(answers) == ("n1 warns", "all warn", "n2 warns")


class Node:
    """A node that is looked at: what it says, and which process it is."""

    def __init__(self) -> None:
        """Joined and idle."""
        self.pid: int | None = 7
        self.seen: Seen | None = (says("n1"), 100.0)
        self.clock = ManualClock()
        self.watch = Watch({"n1": "a:1"}, lambda name: self.pid, self.clock, self._ask)

    def _ask(self, address: str) -> Seen | None:
        assert address == "a:1"
        return self.seen

    def look(self, seconds: float, records: float | None) -> float | None:
        """Look once, so much later, at so many records."""
        self.clock.advance(int(seconds * SECOND))
        self.seen = says("n1"), records
        self.watch.look("n1")
        return self.watch.sight("n1").records_per_second


def test_rate_is_taken_over_a_second() -> None:
    node = Node()

    assert node.look(0, 100) is None
    assert node.look(0.5, 200) is None
    assert node.look(1.5, 500) == 200
    assert node.look(0.5, 900) == 200
    assert node.look(0.5, 700) == 200


def test_rate_begins_anew_with_a_process() -> None:
    node = Node()
    node.look(0, 100)
    assert node.look(1, 200) == 100
    node.pid = 8
    assert node.look(1, 5000) is None
    assert node.look(1, 5010) == 10
    assert node.look(1, 3) is None
    assert node.look(1, None) is None


def test_answer_of_another_process_or_of_long_ago_is_none() -> None:
    node = Node()
    node.look(0, 1)
    assert node.watch.sight("n1").answer is not None
    node.pid = 8
    assert node.watch.sight("n1").answer is None
    node.pid = 7
    node.clock.advance(int(FRESH_SECONDS * SECOND) + 1)
    assert node.watch.sight("n1").answer is None


def test_answer_that_comes_after_the_process_ended_is_dropped() -> None:
    node = Node()

    def ask(address: str) -> Seen | None:
        node.pid = None
        return node.seen

    watch = Watch({"n1": "a:1"}, lambda name: node.pid, node.clock, ask)
    watch.look("n1")
    node.pid = 7

    assert watch.sight("n1").answer is None


def test_node_that_hangs_holds_up_no_other() -> None:
    hang, asked = threading.Event(), threading.Event()

    def ask(address: str) -> Seen | None:
        if address == "a:1":
            hang.wait()
        else:
            asked.set()
        return None

    watch = Watch({"n1": "a:1", "n2": "a:2"}, lambda name: 7, ManualClock(), ask)
    watch.start()
    try:
        assert asked.wait(60)
    finally:
        hang.set()
        watch.stop()


@contextmanager
def door(answers: dict[str, tuple[int, bytes]]) -> Iterator[str]:
    """An admin door that answers so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[self.path]
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


CLUSTER = json.dumps(
    {
        "cluster": "local",
        "fingerprint": "ab",
        "me": "n1",
        "nodes": [{"id": 1, "name": "n1", "generation": 3, "state": "alive", "leaving": False}],
        "partitions": [
            {
                "partition": 0,
                "leader": None,
                "replicas": ["n1", "n2"],
                "role": "follower",
                "epoch": 3,
                "applied_lsn": 12,
                "lag": 4,
            }
        ],
        "warnings": ["a warning"],
    }
).encode()


def test_node_is_asked_for_its_view_and_its_records() -> None:
    metrics = b"# HELP x\nperdure_log_append_records_total 12.0\nperdure_x 3\n"
    with door({"/cluster": (200, CLUSTER), "/metrics": (200, metrics)}) as address:
        seen = ask_node(address)

    assert seen == (
        ClusterAnswer(
            "local",
            "n1",
            (MemberAnswer("n1", "alive"),),
            (PartitionAnswer(0, None, ("n1", "n2"), "follower", 3, 12, 4),),
            ("a warning",),
        ),
        12.0,
    )


def test_node_that_has_not_joined_is_not_silent() -> None:
    with door({"/cluster": (503, b"{}")}) as address:
        assert ask_node(address) == (None, None)


@pytest.mark.parametrize("answer", [(404, b"{}"), (200, b"{"), (200, b'{"cluster": 3}')])
def test_answers_of_something_else_are_none(answer: tuple[int, bytes]) -> None:
    with door({"/cluster": answer}) as address:
        assert ask_node(address) is None
    assert ask_node(address) is None


def test_records_are_none_where_they_are_not_told() -> None:
    assert committed_records(b"perdure_log_append_records_total 3") == 3
    assert committed_records(b"perdure_log_append_records_total x") is None
    assert committed_records(b"") is None
