"""What the commands about state share: the arguments, and having a change made."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..admin_client import get, post
from ..output import Format, print_json

if TYPE_CHECKING:
    from ...api.state_answers import StateAnswer, StateView

TIMEOUT_DEFAULT: Final = 30.0
TIMEOUT_MAX: Final = 300.0

ServiceArgument = Annotated[
    str, typer.Argument(metavar="SERVICE", help="The object or workflow, as a service.")
]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="Its key.")]
VersionOption = Annotated[
    str | None,
    typer.Option(
        "--version", metavar="HEX", help="Only if the whole state still has this version."
    ),
]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the change's turn.")]
TimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout", metavar="SECONDS", min=0, max=TIMEOUT_MAX, help="How long to wait for it."
    ),
]

TURN_HELP: Final = """
A change waits for its turn among the object's invocations: while one of them runs, sleeps or waits,
the change is queued behind it. The command waits for that, unless --no-wait is given.

Exit code 1 when the version is another one, or the turn has not come in time; in the second case
the change stays queued.
"""


def read_state(admin: str, service: str, key: str, name: str | None = None) -> "StateView":
    """The state of a key. Raises TransportError or RemoteError."""
    from ...api.state_answers import StateView

    query = {"service": service, "key": key}
    if name is not None:
        query["name"] = name
    return get(admin, "/state", StateView, query=query)


def change_state(
    admin: str,
    service: str,
    key: str,
    changes: Sequence[object],
    *,
    replace: bool,
    version: str | None,
    wait_seconds: float,
    output: Format,
) -> None:
    """Have a change made and say what it came to.

    Raises TransportError, RemoteError or, with 1, typer.Exit when its turn did not come.
    """
    from ...api.state_answers import StateAnswer

    holder = read_state(admin, service, key, "").holder
    if holder is not None and wait_seconds:
        print(
            f"{service}/{key} is held by {holder.id}: waiting for the change's turn",
            file=sys.stderr,
        )
    answer = post(
        admin,
        "/state",
        {
            "service": service,
            "key": key,
            "changes": changes,
            "replace": replace,
            "version": version,
            "wait_ms": int(wait_seconds * 1000),
        },
        StateAnswer,
        timeout_seconds=wait_seconds + 10,
    )
    if output is Format.JSON:
        print_json(answer)
    else:
        print(_line(answer))
    if answer.outcome == "queued" and wait_seconds:
        print(
            f"the turn has not come within {wait_seconds:g} s; the change stays queued",
            file=sys.stderr,
        )
        raise typer.Exit(1)


def _line(answer: "StateAnswer") -> str:
    if answer.outcome == "done":
        return f"done; the state has version {answer.version} now" if answer.version else "done"
    holder = "an invocation" if answer.holder is None else answer.holder.id
    return f"queued behind {holder}; it is made when its turn comes"
