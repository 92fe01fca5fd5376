"""What a path of the HTTP front door means."""

import pytest

from perdure.ingress.errors import BadRequestError
from perdure.ingress.http.routes import (
    AwakeableRoute,
    HealthRoute,
    ReferenceRoute,
    Route,
    SignalRoute,
    Target,
    parse_path,
)
from perdure.ingress.requests import WorkflowRun


@pytest.mark.parametrize(
    ("path", "targets"),
    [
        ("/S/h", [Target("S", None, "h", False)]),
        ("/S/h/", [Target("S", None, "h", False)]),
        ("/S/send", [Target("S", None, "send", False)]),
        ("/S/h/send", [Target("S", None, "h", True), Target("S", "h", "send", False)]),
        ("/O/k/h", [Target("O", "k", "h", False)]),
        ("/O/k/h/send", [Target("O", "k", "h", True), Target("O", "k/h", "send", False)]),
        ("/O/a/b/h", [Target("O", "a/b", "h", False)]),
        ("/O/a/b/h/send", [Target("O", "a/b", "h", True), Target("O", "a/b/h", "send", False)]),
        ("/O//a/h", [Target("O", "/a", "h", False)]),
        ("/O/a//h", [Target("O", "a/", "h", False)]),
        ("/O/é ü/h", [Target("O", "é ü", "h", False)]),
        ("/restate/call/S/h", [Target("S", None, "h", False)]),
        ("/restate/call/O/k/h", [Target("O", "k", "h", False)]),
        ("/restate/call/O/a/b/h/", [Target("O", "a/b", "h", False)]),
        ("/restate/call/O/k/send", [Target("O", "k", "send", False)]),
        ("/restate/send/S/h", [Target("S", None, "h", True)]),
        ("/restate/send/O/k/h", [Target("O", "k", "h", True)]),
    ],
)
def test_path_names_its_targets(path: str, targets: list[Target]) -> None:
    assert parse_path(path) == tuple(targets)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/restate/health", HealthRoute()),
        ("/restate/health/", HealthRoute()),
        ("/restate/attach", ReferenceRoute("attach", None, "POST")),
        ("/restate/output", ReferenceRoute("output", None, "POST")),
        ("/restate/lookup", ReferenceRoute("lookup", None, "POST")),
        ("/restate/attach/inv_1", ReferenceRoute("attach", "inv_1", "GET")),
        ("/restate/output/inv_1/", ReferenceRoute("output", "inv_1", "GET")),
        ("/restate/invocation/inv_1/attach", ReferenceRoute("attach", "inv_1", "GET")),
        ("/restate/invocation/S/h/i/output", ReferenceRoute("output", ("S", "h", "i"), "GET")),
        (
            "/restate/invocation/O/k/h/i/attach",
            ReferenceRoute("attach", ("O", "k", "h", "i"), "GET"),
        ),
        (
            "/restate/workflow/W/a/b/attach",
            ReferenceRoute("attach", WorkflowRun("W", "a/b"), "GET"),
        ),
        ("/restate/awakeables/sign_1a/resolve", AwakeableRoute("sign_1a", rejects=False)),
        ("/restate/a/sign_1a/reject/", AwakeableRoute("sign_1a", rejects=True)),
        ("/restate/signal/inv_1/a/b/resolve", SignalRoute("inv_1", "a/b", rejects=False)),
        ("/restate/signal/inv_1/n/reject", SignalRoute("inv_1", "n", rejects=True)),
    ],
)
def test_path_under_restate_is_an_operation(path: str, route: Route) -> None:
    assert parse_path(path) == route


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "/S",
        "/S/",
        "//h",
        "/S/h//",
        "/O/\N{REPLACEMENT CHARACTER}/h",
        "/restate",
        "/restate/",
        "/restate/call",
        "/restate/call/S",
        "/restate/call//h",
        "/restate/attach/inv_1/x",
        "/restate/lookup/inv_1",
        "/restate/scope/x/call/S/h",
        "/restate/awakeables/sign_1",
        "/restate/awakeables/sign_1/complete",
        "/restate/awakeables/sign_1/x/resolve",
        "/restate/invocation/inv_1",
        "/restate/invocation/S/h/attach",
        "/restate/invocation/attach",
        "/restate/workflow/W/attach",
        "/restate/signal/inv_1/resolve",
        "/restate/unknown/x",
        "/restate/health/x",
    ],
)
def test_path_that_names_no_target_is_refused(path: str) -> None:
    with pytest.raises(BadRequestError):
        parse_path(path)
