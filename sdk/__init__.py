"""What users write with: services, contexts and errors; imports ``proto`` and ``core`` only.

Names and signatures are those of the official SDK where it has them, so that an app becomes native
with ``import perdure.sdk as restate``.
"""

from . import logging
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
from .logging import RestateLoggingFilter, getLogger
from .request import AttemptFinishedEvent, Request
from .retry_policy import InvocationRetryPolicy
from .service import App, Service, VirtualObject, app
from .steps import RunOptions
from .workflow import Workflow

__all__ = [
    "App",
    "AttemptFinishedEvent",
    "BlockingContext",
    "ConnectError",
    "Context",
    "DurablePromise",
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
    "gather",
    "getLogger",
    "is_internal_exception",
    "logging",
    "select",
    "wait_completed",
    "with_connection",
]
