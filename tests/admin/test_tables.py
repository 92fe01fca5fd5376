"""Tables on terminals: what does not fit is left out and named, not cut into pieces."""

import re
import sys

import pytest

from perdure.admin.cli.cluster import NODE_COLUMNS, print_nodes
from perdure.admin.cli.columns import columns_that_fit
from perdure.admin.cli.output import print_table
from perdure.admin.cluster import ClusterStatus, NodeRow
from perdure.metadata.nodes import Addresses

NODES = [
    NodeRow(
        id=number,
        name=f"node-{number}",
        generation=12,
        state="suspect",
        leaving=False,
        roles=("admin", "ingress", "log-server", "metadata-server", "worker"),
        zone="",
        storage="read-write",
        drained=False,
        addresses=Addresses(node=f"10.0.0.{number}:5122", admin=f"10.0.0.{number}:9070"),
    )
    for number in (1, 2, 3)
]


def on_terminal(patch: pytest.MonkeyPatch, columns: int) -> None:
    """Make stdout a terminal of that width. Within a test: before it, stdout is another one."""
    patch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    patch.setenv("COLUMNS", str(columns))
    patch.setenv("TERM", "xterm")


def test_columns_go_in_order_until_the_rest_fits() -> None:
    widths = [5, 10, 20, 4]

    assert columns_that_fit(widths, 45, gap=2, dispensable=[2, 1]) == [0, 1, 2, 3]
    assert columns_that_fit(widths, 44, gap=2, dispensable=[2, 1]) == [0, 1, 3]
    assert columns_that_fit(widths, 22, gap=2, dispensable=[2, 1]) == [0, 3]
    # Nothing else may go, whatever the room.
    assert columns_that_fit(widths, 1, gap=2, dispensable=[2, 1]) == [0, 3]


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_nodes_have_a_row_each_on_any_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    on_terminal(monkeypatch, columns)
    print_nodes(ClusterStatus("shop", "f1", "node-1", 2, NODES, [], []))
    out, err = capsys.readouterr()
    out = re.sub(r"\x1b\[[0-9;]*m", "", out)
    heading, _, *rows = out.splitlines()

    assert [row.split()[0] for row in rows] == ["node-1", "node-2", "node-3"]
    assert all(len(row.split()) == len(heading.split()) for row in rows)
    assert all("suspect" in row and "read-write" in row for row in rows)
    left_out = [name for name in NODE_COLUMNS if name not in heading.split()]
    assert (err == "") == (not left_out)
    assert all(name in err for name in left_out)
    assert ("10.0.0.1:5122" in out) == (columns >= 100)


def test_a_table_that_may_lose_nothing_has_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_terminal(monkeypatch, 40)
    print_table(["ID", "WHAT"], [["inv_" + "x" * 60, "-"]])
    out, err = capsys.readouterr()

    assert ("WHAT" in out, out.count("x"), err) == (True, 60, "")
