"""The worker's process under ``perdure dev``: tells what the app offers, then serves it."""

import inspect
import logging
import sys
import typing
from pathlib import Path
from typing import Any, Literal

import msgspec

from ....core.errors import PerdureError
from ....core.net.choice import make_transport
from ....sdk.handlers import Handler
from ....sdk.loading import LoadedApp, load_app
from ....sdk.run_worker import serve_loaded
from ...api.services import KIND_TEXTS
from ..output import report
from .examples import example_of
from .report import AppReport, HandlerReport, write_report

_JSON = "application/json"


def main(arguments: list[str]) -> int:
    """Serve ``APP NODE TRANSPORT REPORT`` until SIGTERM; the exit status of the process."""
    app, node, transport, path = arguments
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    try:
        loaded = load_app(app)
        write_report(Path(path), report_of(loaded))
        return serve_loaded(loaded, [node], transport=make_transport(_transport(transport)))
    except PerdureError as error:
        report(error)
        return 1


def _transport(name: str) -> Literal["tcp", "grpc"]:
    return "grpc" if name == "grpc" else "tcp"


def report_of(loaded: LoadedApp) -> AppReport:
    """What the app offers."""
    return AppReport(
        deployment=loaded.deployment,
        services=[
            (service.name, KIND_TEXTS[service.kind]) for service in loaded.app.services.values()
        ],
        handlers=[_handler(handler) for handler in loaded.app.handler_table().values()],
    )


def _handler(handler: Handler) -> HandlerReport:
    content_type = handler.input_content_type if handler.takes_input else None
    example = None
    if content_type == _JSON:
        example = msgspec.json.encode(example_of(_annotation(handler))).decode()
    return HandlerReport(
        service=handler.service_name,
        name=handler.name,
        keyed=KIND_TEXTS[handler.service_kind] != "service",
        example=example,
        content_type=None if content_type == _JSON else content_type,
    )


def _annotation(handler: Handler) -> Any:
    """What the handler's second parameter is annotated with."""
    parameters = list(inspect.signature(handler.function).parameters)
    hints = typing.get_type_hints(handler.function, include_extras=True)
    return hints.get(parameters[1], Any)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
