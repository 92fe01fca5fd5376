"""What ``perdure dev`` watches and prints."""

import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pytest

from perdure.admin.api.invocation_answers import OperationAnswer, OperationResult
from perdure.admin.api.service_answers import DeploymentList, DeploymentRow
from perdure.admin.cli.dev import files, handover
from perdure.admin.cli.dev.call_lines import app_lines
from perdure.admin.cli.dev.child import report_of
from perdure.admin.cli.dev.examples import example_of
from perdure.admin.cli.dev.files import changed, take_snapshot
from perdure.admin.cli.dev.report import read_report, write_report
from perdure.admin.cli.invocations.filters import Filters
from perdure.sdk import Context, ObjectContext, Service, VirtualObject, app
from perdure.sdk.loading import LoadedApp

from .test_cli import process


class Address(msgspec.Struct):
    """Where somebody lives."""

    street: str
    number: int = 1


class Order(msgspec.Struct):
    """An order; what has a default may be left out."""

    to: Address
    items: list[str]
    express: bool
    note: str | None = None


@dataclass
class Pair:
    """Two numbers."""

    left: int
    right: float


@pytest.mark.parametrize(
    ("annotation", "example"),
    [
        (str, "text"),
        (int, 1),
        (float, 1.5),
        (bool, True),
        (None, None),
        (str | None, "text"),
        (list[int], []),
        (dict[str, int], {}),
        (Literal["b", "a"], "a"),
        (date, "2026-01-31"),
        (Order, {"to": {"street": "text"}, "items": [], "express": True}),
        (Pair, {"left": 1, "right": 1.5}),
        (Any, None),
        (object(), None),
    ],
)
def test_examples_fit_their_annotations(annotation: Any, example: object) -> None:
    assert example_of(annotation) == example


def test_call_lines_can_be_pasted(tmp_path: Path) -> None:
    greeter, counter = Service("Greeter"), VirtualObject("Counter")

    @greeter.handler()
    async def greet(ctx: Context, name: str) -> str:
        """Greet."""
        return name

    @greeter.handler()
    async def store(ctx: Context, photo: bytes) -> None:
        """Store."""

    @counter.handler()
    async def get(ctx: ObjectContext) -> int:
        """Get."""
        return 1

    loaded = LoadedApp(app([greeter, counter]), tmp_path / "app.py", "ab" * 32, ())
    path = tmp_path / "report.json"
    assert read_report(path) is None
    write_report(path, report_of(loaded))
    report = read_report(path)

    assert report is not None
    assert report.deployment == "dp-abababababababab"
    assert list(app_lines(report, "127.0.0.1:8080", "127.0.0.1:8081")) == [
        "Greeter (service)",
        "  greet",
        "    perdure call Greeter/greet '\"text\"'",
        "    curl --json '\"text\"' 127.0.0.1:8080/Greeter/greet",
        "  store",
        "    curl -H 'content-type: application/octet-stream' --data-binary bytes "
        "127.0.0.1:8080/Greeter/store",
        "Counter (virtual object)",
        "  get",
        "    perdure call Counter/ann/get",
        "    curl -X POST 127.0.0.1:8080/Counter/ann/get",
    ]
    assert "--ingress 127.0.0.1:9" in "\n".join(app_lines(report, "127.0.0.1:8", "127.0.0.1:9"))


def test_snapshots_see_every_change_of_an_apps_files(tmp_path: Path) -> None:
    main, part = tmp_path / "app.py", tmp_path / "parts" / "part.py"
    part.parent.mkdir()
    main.write_text("1")
    part.write_text("1")
    for skipped in (".git", "__pycache__", "venv"):
        (tmp_path / skipped).mkdir()
        (tmp_path / skipped / "other.py").write_text("1")
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    (tmp_path / "notes.txt").write_text("1")
    before = take_snapshot(main)
    assert sorted(before) == [str(main), str(part)]

    part.write_text("22")
    grown = take_snapshot(main)
    os.utime(main, ns=(1, 1))
    touched = take_snapshot(main)
    part.unlink()
    gone = take_snapshot(main)

    assert changed(before, before) == []
    assert changed(before, grown) == [str(part)]
    assert changed(grown, touched) == [str(main)]
    assert changed(touched, gone) == [str(part)]


def test_a_snapshot_of_a_huge_directory_is_bounded_and_has_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILES_MAX", 5)
    for number in range(20):
        (tmp_path / f"{number:02}.py").write_text("1")
    main = tmp_path / "zz.py"
    main.write_text("1")
    snapshot = take_snapshot(main)

    assert str(main) in snapshot
    assert len(snapshot) == 5


def test_what_began_with_older_code_is_moved_but_what_somebody_paused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, object]] = []

    def deployment(name: str, workers: int) -> DeploymentRow:
        return DeploymentRow(name, "draining", workers, 0, 9, True, [], "", "")

    def post(admin: str, path: str, body: dict[str, Any], kind: type) -> OperationAnswer:
        asked.append((path, body["ids"]))
        done = [OperationResult(text, "done", True, "") for text in body["ids"][1:]]
        return OperationAnswer([OperationResult("x", "refused", False, "no handler"), *done])

    def select(admin: str, filters: Filters, limit: int) -> SimpleNamespace:
        assert filters.deployment == "old"
        statuses = ("suspended", "paused", "backing-off", "ready")
        return SimpleNamespace(rows=[SimpleNamespace(id=s, status=s) for s in statuses])

    listed = DeploymentList([deployment("old", 0), deployment("beside", 1), deployment("new", 1)])
    monkeypatch.setattr(handover, "get", lambda *_: listed)
    monkeypatch.setattr(handover, "post", post)
    monkeypatch.setattr(handover, "select", select)

    moved = handover.hand_over("http://node", "new")

    assert (moved.moved, moved.refused) == (2, ["no handler"])
    assert asked == [("/invocations/resume", ["suspended", "backing-off", "ready"])]


def test_an_app_that_is_not_there_is_said_before_anything_starts(tmp_path: Path) -> None:
    ended = process("dev", str(tmp_path / "none.py"))

    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error PD0701")
