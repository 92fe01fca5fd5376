"""``perdure up`` as somebody runs it: three nodes, one is killed, all comes back with its data."""

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..ports import free_ports
from .cluster import APPS, HttpClient
from .processes import Process, clean_environment, perdure_command, wait_until


@contextmanager
def running(directory: Path, name: str, *arguments: str) -> Iterator[tuple[Process, Any]]:
    """A cluster of the directory's ``data`` and what it said when it was ready."""
    line = ["up", "--base-dir", str(directory / "data"), "-o", "json", *arguments]
    process = Process(name, line, directory)
    try:
        wait_until(
            "the cluster to be ready",
            lambda: process.status is not None or process.stdout_path.read_text().endswith("\n"),
        )
        assert process.status is None, process.tail()
        yield process, json.loads(process.stdout_path.read_text())
    except BaseException:
        print(process.tail())
        raise
    finally:
        process.kill()


def ask(addresses: dict[str, Any], path: str, value: object, key: str | None = None) -> Any:
    """The answer of a node, once it has one."""
    answers: list[Any] = []

    def answered() -> bool:
        try:
            with HttpClient(int(addresses["ingress_http"].rpartition(":")[2])) as client:
                answer = (
                    client.request("POST", path) if value is None else client.post(path, value, key)
                )
        except OSError:
            return False
        # Nobody has announced the service yet; the leads move; too much at once.
        assert answer.status in (200, 404, 429, 503), answer
        if answer.status == 200:
            answers.append(answer.json())
        return bool(answers)

    wait_until(f"an answer to {path}", answered)
    return answers[0]


def test_cluster_survives_the_loss_of_a_node_and_goes_on_with_its_data(tmp_path: Path) -> None:
    app = ("--app", str(APPS / "counter.py"), "--port-base", str(free_ports(30)))
    with running(tmp_path, "first", *app) as (up, ready):
        first, second, third = ready["nodes"]
        for number, node in enumerate((first, second, third)):
            assert ask(node, "/Counter/ann/add", 5, f"add-{number}") == 5 * (number + 1)
        os.kill(third["pid"], signal.SIGKILL)
        up.wait_for_line("n3 has ended: killed by SIGKILL")

        assert ask(first, "/Counter/ann/add", 5, "add-2") == 15
        assert ask(second, "/Counter/ann/add", 5, "add-3") == 20
        assert up.stop() == 0, up.tail()
    for node in (first, second):
        assert not Path(f"/proc/{node['pid']}").exists()
    with running(tmp_path, "second", *app) as (up, again):
        assert [{**node, "pid": 0} for node in again["nodes"]] == [
            {**node, "pid": 0} for node in ready["nodes"]
        ]
        assert ask(again["nodes"][2], "/Counter/ann/get", None) == 20
        assert up.stop() == 0, up.tail()


def test_clusters_side_by_side_have_nothing_in_common(tmp_path: Path) -> None:
    places = tmp_path / "a", tmp_path / "b"
    for place in places:
        place.mkdir()
    with (
        running(places[0], "up", "--nodes", "1") as (one, first),
        running(places[1], "up", "--nodes", "1") as (other, second),
    ):
        ports = [set(each["nodes"][0].values()) for each in (first, second)]

        assert ports[0] & ports[1] == {"n1"}
        assert (one.stop(), other.stop()) == (0, 0)


def test_keys_kill_a_node_bring_it_back_and_quit(tmp_path: Path) -> None:
    """On a terminal of its own: what is drawn, and that it is given back."""
    ours, theirs = pty.openpty()
    screen = bytearray()

    def read() -> None:
        try:
            while piece := os.read(ours, 65_536):
                screen.extend(piece)
        except OSError:
            pass  # Nobody has the other end any more.

    line = [*perdure_command(), "up", "--nodes", "1", "--base-dir", str(tmp_path / "data")]
    line += ["--port-base", str(free_ports(10))]
    environment = {**clean_environment(), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    reader = threading.Thread(target=read)
    reader.start()

    def until_shown(text: str) -> None:
        wait_until(f"{text!r} to be shown", lambda: text.encode() in screen)
        screen.clear()

    try:
        until_shown("partitions are led")
        os.write(ours, b"1")
        until_shown("killed by SIGKILL")
        os.write(ours, b"1")
        until_shown("ready")
        os.write(ours, b"q")
        wait_until("the end", lambda: process.poll() is not None)
    except BaseException:
        print(bytes(screen[-4000:]))
        raise
    finally:
        process.kill()
        process.wait()
        reader.join()
        os.close(ours)

    assert process.returncode == 0
    assert b"stopping" in screen
