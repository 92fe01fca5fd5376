"""The exceptions that users raise and see, under the name that the official SDK has them."""

from .errors import (
    RetryableError,
    SdkInternalBaseException,
    TerminalError,
    is_internal_exception,
)

__all__ = [
    "RetryableError",
    "SdkInternalBaseException",
    "TerminalError",
    "is_internal_exception",
]
