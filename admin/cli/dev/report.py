"""What the worker's process tells about the app that it has loaded."""

from pathlib import Path

import msgspec


class HandlerReport(msgspec.Struct, frozen=True):
    """One handler.

    Attributes:
        keyed: whether a call of it names a key.
        example: an input as JSON; None for no input, or one that is no JSON.
        content_type: of an input that is no JSON.
    """

    service: str
    name: str
    keyed: bool
    example: str | None
    content_type: str | None


class AppReport(msgspec.Struct, frozen=True):
    """A loaded app; `services` are names and kinds in the order of the app."""

    deployment: str
    services: list[tuple[str, str]]
    handlers: list[HandlerReport]


def write_report(path: Path, report: AppReport) -> None:
    """Write it as a whole. Raises OSError."""
    half = path.with_suffix(".half")
    half.write_bytes(msgspec.json.encode(report))
    half.replace(path)


def read_report(path: Path) -> AppReport | None:
    """What was written last, None before that. Raises OSError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(content, type=AppReport)
