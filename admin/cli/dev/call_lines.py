"""What ``perdure dev`` prints about an app: its services, and how to call each handler."""

import shlex
from collections.abc import Iterator
from typing import Final

from ..ingress_client import INGRESS_DEFAULT
from .report import AppReport, HandlerReport

_KEY: Final = "ann"


def app_lines(report: AppReport, http: str, grpc: str) -> Iterator[str]:
    """The lines.

    Args:
        http: where the HTTP front door is reached, ``host:port``.
        grpc: the same of the gRPC front door.
    """
    for service, kind in report.services:
        yield f"{service} ({kind})"
        for handler in report.handlers:
            if handler.service == service:
                yield f"  {handler.name}"
                if handler.content_type is None:
                    yield f"    {_perdure_line(handler, grpc)}"
                yield f"    {_curl_line(handler, http)}"


def _path(handler: HandlerReport) -> str:
    key = f"/{_KEY}" if handler.keyed else ""
    return f"{handler.service}{key}/{handler.name}"


def _perdure_line(handler: HandlerReport, grpc: str) -> str:
    words = ["perdure", "call", _path(handler)]
    if handler.example is not None:
        words.append(handler.example)
    if grpc != INGRESS_DEFAULT:
        words += ["--ingress", grpc]
    return shlex.join(words)


def _curl_line(handler: HandlerReport, http: str) -> str:
    words = ["curl"]
    if handler.example is not None:
        words += ["--json", handler.example]
    elif handler.content_type is not None:
        words += ["-H", f"content-type: {handler.content_type}", "--data-binary", "bytes"]
    else:
        words += ["-X", "POST"]
    words.append(f"{http}/{_path(handler)}")
    return shlex.join(words)
