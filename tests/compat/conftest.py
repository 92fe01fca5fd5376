"""Runs the tests that ask for it once in each way that `running` knows."""

from typing import Any

import pytest

from . import running


@pytest.fixture(params=running.WAYS)
def each_way(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `running.used` run services in one way."""
    monkeypatch.setattr(running, "way", request.param)
