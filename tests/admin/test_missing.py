"""What an answer lacks is told on stderr, with the reason, and makes the exit code 1."""

import pytest
import typer

from perdure.admin.api.missing import Missing
from perdure.admin.cli.missing import tell_missing


def test_a_whole_answer_is_not_spoken_of(capsys: pytest.CaptureFixture[str]) -> None:
    tell_missing([])

    assert capsys.readouterr() == ("", "")


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    missing = [
        Missing("n2", [1, 4], "PD0201", "node n2 is dead\x1b[2J"),
        Missing(None, [3], "PD0906", "no node is known to lead partition 3 now"),
        Missing("n3", [], "PD0201", "node n3 has not answered within 5 seconds"),
    ]
    with pytest.raises(typer.Exit) as ended:
        tell_missing(missing)
    told = capsys.readouterr()

    assert ended.value.exit_code == 1
    assert told.out == ""
    lines = told.err.splitlines()
    assert lines[1] == "  node n2, partitions 1, 4: PD0201 node n2 is dead\\x1b[2J"
    assert lines[2] == "  partition 3: PD0906 no node is known to lead partition 3 now"
    assert lines[3].startswith("  node n3: PD0201 ")
    assert "doctor" in lines[-1]
