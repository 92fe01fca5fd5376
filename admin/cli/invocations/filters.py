"""Which invocations: the filters that all commands share, and finding what passes them."""

from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from ..admin_client import get

if TYPE_CHECKING:
    from ...api.invocation_answers import InvocationRow
    from ...api.missing import Missing

PAGE_MAX: Final = 1000
PAGE_TIMEOUT_SECONDS: Final = 120.0
"""The oldest ones are found by looking at all."""

ServiceOption = Annotated[
    str | None, typer.Option("--service", metavar="NAME", help="Those of this service.")
]
HandlerOption = Annotated[
    str | None, typer.Option("--handler", metavar="NAME", help="Those of this handler.")
]
KeyOption = Annotated[
    str | None, typer.Option("--key", metavar="KEY", help="Those of this object or workflow.")
]
StatusOption = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="Those in this status, several times for several: scheduled, pending, ready, "
        "running, backing-off, suspended, paused, completed.",
    ),
]
DeploymentOption = Annotated[
    str | None,
    typer.Option(
        "--deployment", "--pinned-to", metavar="NAME", help="Those pinned to this deployment."
    ),
]
PinnedOption = Annotated[
    str | None,
    typer.Option("--pinned-to", metavar="NAME", help="Those pinned to this deployment."),
]
IdempotencyKeyFilter = Annotated[
    str | None,
    typer.Option("--idempotency-key", metavar="KEY", help="Those with this idempotency key."),
]
OldestFirstOption = Annotated[
    bool, typer.Option("--oldest-first", help="By their time of creation.")
]


class Filters(msgspec.Struct, frozen=True):
    """What a command line asks for.

    Attributes:
        statuses: as they were given; none takes the command's own.
    """

    service: str | None = None
    handler: str | None = None
    key: str | None = None
    statuses: tuple[str, ...] = ()
    deployment: str | None = None
    idempotency_key: str | None = None
    oldest_first: bool = False

    @property
    def given(self) -> bool:
        """Whether there is any filter; an order is none."""
        return self != Filters(oldest_first=self.oldest_first)

    def query(self) -> dict[str, str]:
        """As the node takes it."""
        values = {
            "service": self.service,
            "handler": self.handler,
            "key": self.key,
            "status": ",".join(self.statuses) or None,
            "deployment": self.deployment,
            "idempotency_key": self.idempotency_key,
            "order": "oldest" if self.oldest_first else None,
        }
        return {name: value for name, value in values.items() if value is not None}


class Selected(msgspec.Struct, frozen=True):
    """What passes the filters.

    Attributes:
        more: there may be others beyond the limit.
        missing: what could not be asked, of any page.
    """

    rows: "list[InvocationRow]"
    more: bool
    now: str
    missing: "list[Missing]"


def select(admin: str, filters: Filters, limit: int) -> Selected:
    """Up to `limit` invocations. Raises TransportError or RemoteError."""
    from ...api.invocation_answers import InvocationRow, InvocationsPage

    query = filters.query()
    rows: list[InvocationRow] = []
    missing: list[Missing] = []
    while True:
        query["limit"] = str(min(limit - len(rows), PAGE_MAX))
        page = get(
            admin,
            "/invocations",
            InvocationsPage,
            query=query,
            timeout_seconds=PAGE_TIMEOUT_SECONDS,
        )
        rows += page.invocations
        missing += [item for item in page.missing if item not in missing]
        if page.next is None or len(rows) >= limit:
            return Selected(rows, page.next is not None, page.now, missing)
        query["after"] = page.next
