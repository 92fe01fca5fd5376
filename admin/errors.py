"""What admin REST refuses, and the only map from its errors to HTTP codes."""

from typing import Final

from ..core.errors import PerdureError


class NoSuchResourceError(PerdureError):
    """The path names nothing that this node has."""

    code = "PD1001"


class AdminMethodError(PerdureError):
    """An HTTP method that the resource does not take."""

    code = "PD1002"


HTTP_STATUS: Final[dict[type[PerdureError], int]] = {
    NoSuchResourceError: 404,
    AdminMethodError: 405,
}
"""The HTTP status of each error; 500 for any other."""
