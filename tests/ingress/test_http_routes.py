"""What a path of the HTTP front door means."""

import pytest

from perdure.ingress.errors import BadRequestError
from perdure.ingress.http.routes import Target, parse_path


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
        ("/restate/health", []),
        ("/restate/health/", []),
    ],
)
def test_path_names_its_targets(path: str, targets: list[Target]) -> None:
    assert list(parse_path(path)) == targets


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
        "/restate/attach",
        "/restate/scope/x/call/S/h",
        "/restate/awakeables/sign_1/resolve",
        "/restate/invocation/inv_1/attach",
        "/restate/health/x",
    ],
)
def test_path_that_names_no_target_is_refused(path: str) -> None:
    with pytest.raises(BadRequestError):
        parse_path(path)
