"""What users write with: services, contexts and errors; imports ``proto`` and ``core`` only.

Names and signatures are those of the official SDK where it has them, so that an app becomes native
with ``import perdure.sdk as restate``.
"""

from typing import TYPE_CHECKING, Any

from . import harness, logging
from .blocking import BlockingContext
from .calls import RestateDurableCallFuture, SendHandle
from .client import RestateClient, create_client
from .client_types import HttpError, RestateClientSendHandle
from .combinators import as_completed, gather, select, wait_completed
from .connection import ConnectError, connect, with_connection
from .context import (
    Context,
    DurablePromise,
    ObjectContext,
    ObjectSharedContext,
    WorkflowContext,
    WorkflowSharedContext,
)
from .context_base import RestateDurableFuture, RestateDurableSleepFuture
from .entry_codec import JournalValueCodec, JournalValueCodecProvider
from .errors import (
    RetryableError,
    SdkInternalBaseException,
    TerminalError,
    is_internal_exception,
)
from .harness import create_test_harness, test_harness
from .logging import RestateLoggingFilter, getLogger
from .request import AttemptFinishedEvent, Request
from .retry_policy import InvocationRetryPolicy
from .service import App, Service, VirtualObject, app
from .steps import RunOptions
from .workflow import Workflow

if TYPE_CHECKING:
    from ..testing.harness import HarnessEnvironment

__all__ = [
    "App",
    "AttemptFinishedEvent",
    "BlockingContext",
    "ConnectError",
    "Context",
    "DurablePromise",
    "HarnessEnvironment",
    "HttpError",
    "InvocationRetryPolicy",
    "JournalValueCodec",
    "JournalValueCodecProvider",
    "ObjectContext",
    "ObjectSharedContext",
    "Request",
    "RestateClient",
    "RestateClientSendHandle",
    "RestateDurableCallFuture",
    "RestateDurableFuture",
    "RestateDurableSleepFuture",
    "RestateLoggingFilter",
    "RetryableError",
    "RunOptions",
    "SdkInternalBaseException",
    "SendHandle",
    "Service",
    "TerminalError",
    "VirtualObject",
    "Workflow",
    "WorkflowContext",
    "WorkflowSharedContext",
    "app",
    "as_completed",
    "connect",
    "create_client",
    "create_test_harness",
    "gather",
    "getLogger",
    "is_internal_exception",
    "logging",
    "select",
    "test_harness",
    "wait_completed",
    "with_connection",
]


def __getattr__(name: str) -> Any:
    """`HarnessEnvironment`, which is loaded when it is asked for."""
    if name == "HarnessEnvironment":
        return getattr(harness, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
