"""The handler that a request names, and whether the request is one that it takes."""

from typing import Final

from ..partition_processor.deployments import Target, Targets
from ..partition_processor.records import (
    KIND_SERVICE,
    KIND_WORKFLOW_RUN,
    KIND_WORKFLOW_SHARED,
)
from .errors import (
    BadRequestError,
    InputRefusedError,
    KeyMissingError,
    KeyNotWantedError,
    PrivateHandlerError,
    UnknownHandlerError,
    UnknownServiceError,
)
from .requests import InvocationRequest

KEY_BYTES_MAX: Final = 2048
"""The longest key of a virtual object or workflow, and idempotency key: they are in every row."""
_SHOWN_MAX: Final = 10
_WILDCARD: Final = "*/*"


def find_handlers(targets: Targets, service: str) -> dict[str, Target]:
    """The handlers of a service by name. Raises UnknownServiceError."""
    handlers = targets.handlers(service)
    if handlers is None:
        raise UnknownServiceError(
            f"service {service!r} is not known: start a worker that offers it, or check the name; "
            f"known are {_listed(targets.service_names())}"
        )
    return handlers


def find_target(targets: Targets, request: InvocationRequest) -> Target:
    """The handler to invoke.

    Raises UnknownServiceError, UnknownHandlerError, PrivateHandlerError, KeyMissingError,
    KeyNotWantedError, InputRefusedError or BadRequestError.
    """
    handlers = targets.handlers(request.service)
    if handlers is None:
        handlers = find_handlers(targets, request.service)
    target = handlers.get(request.handler)
    if target is None:
        raise UnknownHandlerError(
            f"service {request.service!r} has no handler {request.handler!r}: it has "
            f"{_listed(sorted(handlers))}"
        )
    if target.handling.private:
        raise PrivateHandlerError(
            f"{request.service}/{request.handler} is private: other handlers may call it, clients "
            "may not"
        )
    key = request.key
    if target.target_kind == KIND_SERVICE:
        if key is not None:
            raise KeyNotWantedError(
                f"{request.service!r} is a plain service and takes no key: call "
                f"{request.service}/{request.handler}"
            )
    elif key is None or key == "":
        raise KeyMissingError(
            f"{request.service!r} is a {_kind_name(target)} and needs a key: call "
            f"{request.service}/KEY/{request.handler}"
        )
    elif len(key) * 4 > KEY_BYTES_MAX:
        check_key(key)
    if request.idempotency_key is not None:
        if request.idempotency_key == "":
            raise BadRequestError("the idempotency key is empty: give one, or leave it out")
        check_key(request.idempotency_key, "idempotency key")
        if target.target_kind == KIND_WORKFLOW_RUN:
            raise BadRequestError(
                f"{request.service}/{request.handler} is a workflow's run and takes no idempotency "
                "key: it runs once per workflow key anyway"
            )
    if request.check_input:
        _check_input(target, request)
    return target


def check_key(key: str, name: str = "key") -> None:
    """Refuse a key that is too long. Raises BadRequestError."""
    if len(key.encode()) > KEY_BYTES_MAX:
        raise BadRequestError(f"the {name} is longer than {KEY_BYTES_MAX} bytes")


def _kind_name(target: Target) -> str:
    if target.target_kind in (KIND_WORKFLOW_RUN, KIND_WORKFLOW_SHARED):
        return "workflow"
    return "virtual object"


def _check_input(target: Target, request: InvocationRequest) -> None:
    """Refuse a body that the handler says it does not take; what is in it is the handler's."""
    wanted = target.input_content_type
    given = request.content_type
    if not request.body:
        # Without a body its content type says nothing, and many clients send it always.
        if target.input_required:
            raise InputRefusedError(
                f"{target.service}/{target.handler} needs a body of content type {wanted!r}, and "
                f"the request has none (content type {given or 'none'!r})"
            )
        return
    if wanted is None:
        raise InputRefusedError(
            f"{target.service}/{target.handler} takes no input (content type 'none'), and the "
            f"request has {len(request.body)} bytes of content type {given or 'none'!r}: leave "
            "them out"
        )
    # A client that says nothing is taken to mean what the handler wants.
    if given and given != wanted and not _matches(given, wanted):
        raise InputRefusedError(
            f"{target.service}/{target.handler} takes content type {wanted!r}, the request has "
            f"{given!r}: send the header content-type: {wanted}"
        )


def _matches(given: str, wanted: str) -> bool:
    """Whether a content type is one that `wanted`, which may have wildcards, stands for."""
    if wanted == _WILDCARD:
        return True
    given_type, _, given_subtype = given.partition(";")[0].strip().lower().partition("/")
    wanted_type, _, wanted_subtype = wanted.partition(";")[0].strip().lower().partition("/")
    return wanted_type in (given_type, "*") and wanted_subtype in (given_subtype, "*")


def _listed(names: list[str]) -> str:
    """Names for an error text."""
    if not names:
        return "none"
    text = ", ".join(names[:_SHOWN_MAX])
    left_out = len(names) - _SHOWN_MAX
    return text if left_out <= 0 else f"{text} and {left_out} more"
