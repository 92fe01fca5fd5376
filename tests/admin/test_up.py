"""What ``perdure up`` prints and draws, and which keys it obeys."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from perdure.admin.cli.main import run as main_run
from perdure.admin.cli.up.live import LiveView
from perdure.admin.cli.up.loop import QUIET_LOOKS, Stop, run_cluster
from perdure.admin.cli.up.plain import PlainView, changes
from perdure.node.local_cluster.errors import NodeEndedError
from perdure.node.local_cluster.picture import (
    ClusterPicture,
    Condition,
    NodePicture,
    PartitionPicture,
    WorkerPicture,
)
from perdure.node.local_cluster.ports import usual_addresses
from perdure.node.local_cluster.processes import ManagedProcess


def node(number: int, **changed: Any) -> NodePicture:
    usual = NodePicture(
        name=f"n{number}",
        pid=100 + number,
        starts=1,
        condition=Condition.READY,
        ending="",
        asked=False,
        addresses=usual_addresses(number)[-1],
        seen_as="alive",
        leads=1,
        follows=1,
        lag=0,
        records_per_second=1234.5,
        last_lines=(),
    )
    return msgspec.structs.replace(usual, **changed)


def partition(number: int, leader: str | None) -> PartitionPicture:
    return PartitionPicture(number, leader, leader is not None, 3, ("n1", "n2"), 12, 0)


def picture(
    *nodes: NodePicture, leaders: Sequence[str | None] = ("n1", "n2"), **changed: Any
) -> ClusterPicture:
    usual = ClusterPicture(
        cluster="local",
        nodes=nodes or (node(1), node(2)),
        partitions=tuple(partition(number, leader) for number, leader in enumerate(leaders)),
        workers=(),
        warnings=(),
    )
    return msgspec.structs.replace(usual, **changed)


STARTING = picture(
    node(1, condition=Condition.STARTING, seen_as=""),
    node(2, condition=Condition.STARTING, seen_as=""),
    leaders=(),
)


def test_lines_tell_what_has_changed_and_nothing_else() -> None:
    killed = node(2, condition=Condition.ENDED, ending="killed by SIGKILL", asked=True)

    assert list(changes(None, STARTING)) == ["n1 is started, pid 101", "n2 is started, pid 102"]
    assert list(changes(STARTING, picture())) == [
        "n1 has joined",
        "n2 has joined",
        "n1 leads partition 0",
        "n2 leads partition 1",
    ]
    assert list(changes(picture(), picture())) == []
    assert list(changes(picture(), picture(node(1), killed, leaders=("n1", None)))) == [
        "n2 has ended: killed by SIGKILL",
        "nobody leads partition 1",
    ]
    back = node(2, starts=2, pid=202, condition=Condition.STARTING, seen_as="dead")
    assert list(changes(picture(node(1), killed), picture(node(1), back))) == [
        "n2 is started, pid 202",
        "n2 is taken for dead",
    ]


def test_process_that_ended_by_itself_shows_its_last_lines() -> None:
    ended = node(1, condition=Condition.ENDED, ending="exit status 1", last_lines=("a", "b"))
    worker = WorkerPicture("worker-1-app", 300, 1, False, "exit status 1", ("no such module",))
    after = picture(ended, node(2), workers=(worker,), warnings=("one copy only",))

    assert list(changes(picture(), after)) == [
        "n1 has ended: exit status 1",
        "  a",
        "  b",
        "worker-1-app has ended: exit status 1",
        "  no such module",
        "warning: one copy only",
    ]
    assert list(changes(after, after)) == []


def test_warning_about_other_numbers_is_no_news() -> None:
    one, two = "segments of logs 0, 1 are at risk: n2 is dead", "segments of logs 5 are at risk: n2"
    before = picture(warnings=(one,))

    assert list(changes(None, picture(warnings=(one, one.replace("0, 1", "7")))))[-1:] == [
        f"warning: {one}"
    ]
    assert list(changes(before, picture(warnings=(one.replace("0, 1", "3, 4, 12"),)))) == []
    assert list(changes(before, picture(warnings=(one.replace("n2", "n3"), two)))) == [
        f"warning: {one.replace('n2', 'n3')}",
        f"warning: {two}",
    ]


def test_many_leads_that_move_are_counted() -> None:
    after = picture(leaders=["n1"] * 32)

    assert list(changes(picture(leaders=["n2"] * 32), after)) == ["n1 leads 32 partitions"]


def test_view_has_room_for_many_partitions() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=100, height=24, color_system=None)
    view = LiveView("./data", console)
    behind = msgspec.structs.replace(partition(31, None), lag=77)
    partitions = (*(partition(number, "n1") for number in range(31)), behind)
    nodes = (
        node(1),
        node(2, condition=Condition.ENDED, ending="killed by SIGKILL"),
        node(3, condition=Condition.SILENT, seen_as="suspect", records_per_second=None),
    )
    worker = WorkerPicture("worker-1-app", 300, 1, True, "", ())
    view.say("something has [happened]\x1b[2J")
    console.print(view.draw(picture(*nodes, partitions=partitions, workers=(worker,))))
    lines = screen.getvalue().splitlines()

    assert len(lines) <= 24
    assert "32 partitions, 1 without a leader" in lines[0]
    assert any("killed by SIGKILL" in line for line in lines)
    assert any("silent (suspect)" in line for line in lines)
    assert any("127.0.0.1:8080" in line and "1,234" in line for line in lines)
    assert any("nobody" in line and "77" in line for line in lines)
    assert any("worker-1-app  runs, pid 300" in line for line in lines)
    assert "something has [happened]\\x1b[2J" in lines
    assert lines[-1].startswith("1-9 kill")


def drawn(width: int, height: int, shown: ClusterPicture, *events: str) -> list[str]:
    screen = io.StringIO()
    console = Console(file=screen, width=width, height=height, color_system=None)
    view = LiveView("./data", console)
    for event in events:
        view.say(event)
    console.print(view.draw(shown))
    return screen.getvalue().splitlines()


FOUR_AFTER_A_KILL = picture(
    node(1, leads=8),
    node(2, condition=Condition.ENDED, ending="killed by SIGKILL"),
    node(3),
    node(4),
    leaders=["n1"] * 30 + [None, "n3"],
    workers=tuple(WorkerPicture(f"worker-{n}-app", 300, 1, n > 1, "", ()) for n in range(1, 6)),
)


@pytest.mark.parametrize("width", [120, 100, 80, 60, 45])
def test_narrow_view_leaves_columns_out_and_shortens_none(width: int) -> None:
    lines = drawn(width, 40, FOUR_AFTER_A_KILL)

    assert not any("…" in line for line in lines[1:-1])
    assert lines[1].split()[:3] == ["KEY", "NODE", "STATE"]
    for number in (1, 2, 3, 4):
        assert lines[2 + number].split()[:2] == [str(number), f"n{number}"]
    assert "killed by SIGKILL" in lines[4]
    assert "8" in lines[3].split()
    assert ("127.0.0.1:8080" in lines[3]) == (width >= 80)
    assert lines[-1].startswith("1-9 kill")


@pytest.mark.parametrize("height", range(8, 41))
def test_low_view_has_nodes_keys_and_what_nobody_leads(height: int) -> None:
    events = [f"event {number} " + "long " * 30 for number in range(20)]
    lines = drawn(80, height, FOUR_AFTER_A_KILL, *events)

    assert len(lines) == height
    assert [line.split()[1] for line in lines[3:7]] == ["n1", "n2", "n3", "n4"]
    assert lines[-1].startswith("1-9 kill")
    # A few rows of partitions need eight others, three of events among them.
    if height >= 15:
        assert any("nobody" in line for line in lines)
        assert any("event 19" in line for line in lines)


def test_long_events_are_shown_whole() -> None:
    words = [f"word{number}" for number in range(40)]
    lines = drawn(80, 30, picture(), "earlier", "warning: " + " ".join(words))
    text = " ".join(lines)

    assert all(word in text for word in words)


class FakeProcess:
    """A process that does as it is told."""

    def __init__(self) -> None:
        """Nothing runs."""
        self.runs = False


class FakeCluster:
    """A cluster that shows one picture after the other and writes down what is asked of it."""

    def __init__(self, *pictures: ClusterPicture) -> None:
        """Take the pictures; the last one stays."""
        self.nodes = {"n1": FakeProcess(), "n2": FakeProcess()}
        self.told: list[str] = []
        self._pictures = list(pictures)
        self.late: list[str] = []

    def picture(self) -> ClusterPicture:
        return self._pictures.pop(0) if len(self._pictures) > 1 else self._pictures[0]

    def start(self) -> None:
        self.told.append("start")
        for each in self.nodes.values():
            each.runs = True

    def start_workers(self) -> None:
        self.told.append("start workers")

    def check_started(self, picture: ClusterPicture) -> None:
        if any(each.ending for each in picture.nodes):
            raise NodeEndedError("n1 ended")

    def kill(self, name: str) -> None:
        self.told.append(f"kill {name}")
        self.nodes[name].runs = False

    def bring_back(self, name: str) -> None:
        self.told.append(f"bring back {name}")
        self.nodes[name].runs = True

    def stop(self, hurry: object) -> list[str]:
        self.told.append("stop")
        # Who has ended warns of nothing.
        self._pictures = [msgspec.structs.replace(each, warnings=()) for each in self._pictures]
        return self.late


class FakeView:
    """A view with keys that are pressed one after the other; then somebody sends a signal."""

    def __init__(self, keys: str) -> None:
        """Take the keys."""
        self._keys = list(keys)
        self.said: list[str] = []
        self.shown = 0
        self.warnings: list[str] = []

    def show(self, picture: ClusterPicture) -> None:
        self.shown += 1
        self.warnings += picture.warnings

    def ready(self, picture: ClusterPicture) -> None:
        self.said.append("ready")

    def say(self, text: str) -> None:
        self.said.append(text)

    def key(self, seconds: float, stop: Stop) -> str:
        if not self._keys:
            stop.request()
            return ""
        return self._keys.pop(0)


def run(cluster: FakeCluster, view: FakeView) -> Stop:
    stop = Stop()
    run_cluster(cluster, view, stop)  # type: ignore[arg-type]
    return stop


def test_digit_kills_a_node_and_brings_it_back() -> None:
    cluster, view = FakeCluster(picture()), FakeView("2x32w1")
    run(cluster, view)

    assert cluster.told == [
        "start",
        "start workers",
        "kill n2",
        "bring back n2",
        "start workers",
        "kill n1",
        "stop",
    ]


@pytest.mark.parametrize("key", ["q", "Q"])
def test_q_ends(key: str) -> None:
    cluster = FakeCluster(picture())
    cluster.late = ["n2"]
    view = FakeView(key + "1")
    stop = run(cluster, view)

    assert cluster.told == ["start", "start workers", "stop"]
    assert view.said[-1] == "killed, as they did not end in time: n2"
    assert not stop.hurry.is_set()


def test_second_request_to_stop_is_in_a_hurry() -> None:
    stop = Stop()
    stop.request()
    assert (stop.requested.is_set(), stop.hurry.is_set()) == (True, False)
    stop.request(2, None)
    assert stop.hurry.is_set()


def test_workers_start_once_partitions_are_led() -> None:
    cluster, view = FakeCluster(STARTING, STARTING, picture()), FakeView("   ")
    run(cluster, view)

    assert (cluster.told, view.said[0]) == (["start", "start workers", "stop"], "ready")


def test_warnings_of_nodes_that_start_are_shown_once_the_start_is_slow() -> None:
    starting = msgspec.structs.replace(STARTING, warnings=("hears too few",))
    quick, slow, ready = FakeView(" " * 5), FakeView(" " * QUIET_LOOKS), FakeView("    ")
    run(FakeCluster(starting), quick)
    run(FakeCluster(starting), slow)
    run(FakeCluster(starting, starting, picture(warnings=("n2 is dead",))), ready)

    assert (quick.warnings, slow.warnings[:1]) == ([], ["hears too few"])
    assert ready.warnings[:1] == ["n2 is dead"]


def test_node_that_ends_before_all_is_ready_is_an_error_and_later_is_none() -> None:
    ended = node(1, condition=Condition.ENDED, ending="exit status 1")
    with pytest.raises(NodeEndedError):
        run(FakeCluster(STARTING, picture(ended, leaders=())), FakeView("  "))
    run(FakeCluster(picture(), picture(ended)), FakeView("  "))


def test_json_is_one_line_of_addresses_and_the_rest_goes_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    view = PlainView("a temporary directory", Path("/tmp/x"), json=True)
    view.show(picture())
    view.ready(picture())
    out, err = capsys.readouterr()

    assert out.count("\n") == 1
    assert json.loads(out) == {
        "cluster": "local",
        "base_dir": "/tmp/x",
        "partitions": 2,
        "nodes": [
            {"name": "n1", "pid": 101, **usual_addresses(1)[0]},
            {"name": "n2", "pid": 102, **usual_addresses(2)[1]},
        ],
    }
    assert "perdure up: ready: all 2 partitions are led" in err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--nodes", "10"], 2, "10 is not between 1 and 9"),
        (["--nodes", "0"], 2, "0 is not between 1 and 9"),
        (["--port-base", "80"], 2, "80 is not between 1024 and 65505"),
        (["--port-base", "65510"], 2, "65510 is not between 1024 and 65505"),
        (["--set", "nonsense"], 1, "nonsense"),
        (["--app", "nowhere.py"], 1, "nowhere.py"),
        (["--base-dir", os.devnull], 1, "error PD1140: /dev/null"),
    ],
)
def test_wrong_usage_starts_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.delattr(ManagedProcess, "start")
    code = main_run(["up", *arguments])
    out, err = capsys.readouterr()

    assert (code, out) == (status, "")
    assert said in " ".join(err.replace("│", " ").split())
