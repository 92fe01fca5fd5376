"""docs/protocol.md is what the code and its tests say, and leaves nothing out."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from perdure.core.protocol import messages

from ..tree import TREE
from .transitions import STATUSES, TABLE


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """The names of the script that writes the page."""
    return runpy.run_path(str(TREE / "scripts" / "protocol_table.py"))


def test_the_page_is_what_the_script_gives(script: dict[str, Any]) -> None:
    expected = script["document"](STATUSES, TABLE)

    assert script["TARGET"].read_text(encoding="utf-8") == expected, (
        "run PYTHONPATH=src python scripts/protocol_table.py"
    )


def test_every_number_of_the_protocol_is_a_message_or_said_to_be_none(
    script: dict[str, Any],
) -> None:
    numbers = {
        name for name, value in vars(messages).items() if name.isupper() and type(value) is int
    }

    assert script["NOT_MESSAGES"] < numbers
    assert set(script["message_names"]()) == numbers - script["NOT_MESSAGES"]
    assert set(script["CORE"]) | set(script["SESSION"]) | set(script["NOTIFICATIONS"]) < numbers


def test_a_mark_of_something_that_there_is_not_is_found(
    script: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_one.py").write_text(
        '@covers("SLEEP_COMMAND", "NAP")\ndef test_it() -> None: ...\n', encoding="utf-8"
    )
    names = script["covered"].__globals__
    known_root, known_elsewhere = names["ROOT"], names["ELSEWHERE"]
    try:
        names["ROOT"], names["ELSEWHERE"] = tmp_path, {}
        assert set(script["covered"]()) == {"SLEEP_COMMAND", "NAP"}
        with pytest.raises(LookupError, match="NAP"):
            script["document"](STATUSES, TABLE)
        names["ELSEWHERE"] = {"HELLO": ("tests/test_one.py::test_gone",)}
        with pytest.raises(LookupError, match="test_gone, which is not there"):
            script["document"](STATUSES, TABLE)
        names["ELSEWHERE"] = {}
        (tmp_path / "tests" / "test_one.py").write_text("", encoding="utf-8")
        with pytest.raises(LookupError, match="no test covers START"):
            script["document"](STATUSES, TABLE)
    finally:
        names["ROOT"], names["ELSEWHERE"] = known_root, known_elsewhere
