"""What can go wrong in the SDK: errors for users to raise, errors they see, and control flow."""

from asyncio import CancelledError
from datetime import timedelta

from ..core.errors import PerdureError


class TerminalError(Exception):
    """Raise it in a handler or a step to fail for good: nothing is retried.

    Attributes:
        status_code: what a caller over HTTP sees.
        metadata: handed to the caller beside the message.
    """

    def __init__(
        self, message: str, status_code: int = 500, metadata: dict[str, str] | None = None
    ) -> None:
        """Take the sentence that the caller reads."""
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.metadata = metadata


class InvocationCancelledError(TerminalError, CancelledError):
    """What the awaits of a cancelled handler raise; ended by its timeout, it is a cancelled one.

    A terminal error, so that handlers can compensate and go on, and a cancellation for asyncio,
    so that task groups and `gather` wind up what they started.
    """


class RetryableError(Exception):
    """Raise it in a handler or a step to be tried again, after `retry_after` when given."""

    def __init__(
        self, message: str, status_code: int = 500, retry_after: timedelta | None = None
    ) -> None:
        """Take the sentence that is shown beside the retry."""
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.retry_after = retry_after


class SdkInternalBaseException(BaseException):
    """Control flow of the SDK. Derives from BaseException so that `except Exception` lets it by."""


class AttemptEnded(SdkInternalBaseException):
    """This attempt of the invocation is over: whatever still runs of it may do nothing durable."""


def is_internal_exception(e: BaseException) -> bool:
    """Whether an exception is control flow, to be raised again by a handler that caught it.

    That is what ends an attempt, and what asyncio cancels tasks with; the cancellation of an
    invocation is a TerminalError and is not meant.
    """
    control_flow = (SdkInternalBaseException, CancelledError)
    return isinstance(e, control_flow) and not isinstance(e, TerminalError)


class AppNotFoundError(PerdureError):
    """The app file does not exist or is no Python file."""

    code = "PD0701"


class AppImportError(PerdureError):
    """Importing the app file raised an exception."""

    code = "PD0702"


class NoServicesError(PerdureError):
    """The app file defines no service."""

    code = "PD0703"


class DuplicateServiceError(PerdureError):
    """Two services of one app have the same name."""

    code = "PD0704"


class HandlerSignatureError(PerdureError):
    """A function cannot be a handler as it is written."""

    code = "PD0705"


class UnsupportedOptionError(PerdureError):
    """An option of the compatible API that this release does not implement."""

    code = "PD0706"


class ForbiddenCallError(PerdureError):
    """A handler did something that cannot be replayed outside a step."""

    code = "PD0707"


class OutsideHandlerError(PerdureError):
    """A context was used while its handler was not running: in a step, a thread, a finalizer."""

    code = "PD0708"


class HandlerDeadlockedError(PerdureError):
    """A handler waits for something that nothing durable can ever bring about."""

    code = "PD0709"


class JournalMismatchError(PerdureError):
    """The code does something else than what the journal says it did before."""

    code = "PD0710"


class ProtocolViolationError(PerdureError):
    """The node sent something that the service protocol does not allow."""

    code = "PD0711"


class WorkerRefusedError(PerdureError):
    """A node does not take this worker and said that trying again is of no use."""

    code = "PD0712"


class SerializationError(PerdureError):
    """A value cannot be written in, or read from, the form that its annotation asks for."""

    code = "PD0713"


class NotAHandlerError(PerdureError):
    """A function was given where a handler is needed, and no decorator made it one."""

    code = "PD0720"


class InvalidOptionError(PerdureError):
    """An option of a service, handler or client has a value that it does not take."""

    code = "PD0721"


class WrongTargetError(PerdureError):
    """A handler was called in a way that its kind of service does not take."""

    code = "PD0722"
