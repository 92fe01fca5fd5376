"""Options of services and handlers: what users give, checked, as the manifest has it."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Final, NoReturn

from ..core.protocol.session import HandlingOptions
from .errors import InvalidOptionError, UnsupportedOptionError
from .retry_policy import InvocationRetryPolicy

ContextManagers = Sequence[Callable[[], AbstractAsyncContextManager[None]]]

_MILLISECOND: Final = timedelta(milliseconds=1)
_DURATIONS: Final = {
    "inactivity_timeout": "inactivity_timeout",
    "abort_timeout": "abort_timeout",
    "journal_retention": "journal_retention",
    "idempotency_retention": "idempotency_retention",
    "workflow_retention": "workflow_completion_retention",
}
_FLAGS: Final = ("enable_lazy_state", "ingress_private")
_ON_MAX_ATTEMPTS: Final = ("pause", "kill")
_ATTEMPTS_MAX: Final = 2**31 - 1
_SERVICE_NAME: Final = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]{0,254}")
_HANDLER_NAME: Final = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]{0,254}")


def handling_options(where: str, owner: str, given: Mapping[str, Any]) -> HandlingOptions:
    """The options of a service or handler as they are announced; None leaves one open.

    `where` is ``file:line`` and `owner` the name of whose options they are, both for messages.
    Raises InvalidOptionError for a value that an option does not take, UnsupportedOptionError for
    one that this release does not implement.
    """
    refuse = _Refusal(where, owner)
    fields: dict[str, Any] = {}
    for name, field in _DURATIONS.items():
        value = given.get(name)
        if value is not None:
            fields[field] = _milliseconds(refuse, name, value)
    for name in _FLAGS:
        value = given.get(name)
        if value is not None:
            if not isinstance(value, bool):
                refuse(name, "True or False", value)
            fields[name] = value
    preload = given.get("state_preload")
    if preload is not None:
        if given.get("enable_lazy_state") is not None:
            refuse("state_preload", "a value only where enable_lazy_state is not given", preload)
        fields["enable_lazy_state"] = not _preloads(refuse, preload)
    policy = given.get("invocation_retry_policy")
    if policy is not None:
        fields |= _retry_fields(refuse, policy)
    return HandlingOptions(**fields)


def check_service_name(where: str, name: Any) -> None:
    """Refuse a service's name that no path could have. Raises InvalidOptionError."""
    if not isinstance(name, str) or _SERVICE_NAME.fullmatch(name) is None:
        refuse = _Refusal(where, "a service")
        refuse("name", "a letter and then letters, digits, '_', '.' and '-', up to 255", name)


def check_handler_name(where: str, service: str, name: Any) -> None:
    """Refuse a handler's name that no path could have. Raises InvalidOptionError."""
    if not isinstance(name, str) or _HANDLER_NAME.fullmatch(name) is None:
        refuse = _Refusal(where, f"a handler of {service}")
        refuse("name", "a letter and then letters, digits and '_', up to 255", name)


def checked_timeout(where: str, owner: str, timeout: timedelta | None) -> timedelta | None:
    """The whole time that an invocation may take. Raises InvalidOptionError."""
    if timeout is not None:
        _milliseconds(_Refusal(where, owner), "timeout", timeout, least=1)
    return timeout


def checked_managers(where: str, owner: str, managers: Any) -> ContextManagers:
    """What is entered around each attempt, () for None. Raises InvalidOptionError."""
    if managers is None:
        return ()
    if not isinstance(managers, list | tuple) or not all(map(callable, managers)):
        refuse = _Refusal(where, owner)
        refuse(
            "invocation_context_managers",
            "a list of functions without arguments that each give an async context manager",
            managers,
        )
    return tuple(managers)


def checked_texts(where: str, owner: str, description: Any, metadata: Any) -> None:
    """Refuse a description or metadata that is no text. Raises InvalidOptionError."""
    refuse = _Refusal(where, owner)
    if description is not None and not isinstance(description, str):
        refuse("description", "text", description)
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(
        isinstance(text, str) for pair in metadata.items() for text in pair
    ):
        refuse("metadata", "a dict of texts by text", metadata)


def refuse_unsupported(where: str, given: Mapping[str, Any]) -> None:
    """Raise UnsupportedOptionError for an option that was given and is not implemented."""
    for name, value in given.items():
        if value is not None:
            raise UnsupportedOptionError(
                f"{where}: option {name} is not supported by this release; leave it out"
            )


class _Refusal:
    """Raises, with the place that all of one owner's options share."""

    def __init__(self, where: str, owner: str) -> None:
        self.where = where
        self.owner = owner

    def __call__(self, option: str, takes: str, value: object) -> NoReturn:
        raise InvalidOptionError(
            f"{self.where}: option {option} of {self.owner} takes {takes}, not {value!r}"
        )


def _milliseconds(refuse: _Refusal, name: str, value: Any, least: int = 0) -> int:
    if not isinstance(value, timedelta) or value < least * _MILLISECOND:
        refuse(name, f"a timedelta of {least or 'zero'} milliseconds or more", value)
    # Rounded up: a time below what the manifest can say is not none at all.
    whole, rest = divmod(value, _MILLISECOND)
    return whole + bool(rest)


def _preloads(refuse: _Refusal, preload: Any) -> bool:
    if isinstance(preload, bool):
        return preload
    if not isinstance(preload, list | tuple) or not all(isinstance(key, str) for key in preload):
        refuse("state_preload", "True or False", preload)
    if preload:
        raise UnsupportedOptionError(
            f"{refuse.where}: option state_preload of {refuse.owner} names keys; this release "
            "takes True (all state is sent along) or False (keys are read when asked for)"
        )
    return False


def _retry_fields(refuse: _Refusal, policy: Any) -> dict[str, Any]:
    option = "invocation_retry_policy"
    if not isinstance(policy, InvocationRetryPolicy):
        refuse(option, "an InvocationRetryPolicy", policy)
    fields: dict[str, Any] = {}
    for name in ("initial_interval", "max_interval"):
        interval = getattr(policy, name)
        if interval is not None:
            fields[f"retry_policy_{name}"] = _milliseconds(refuse, f"{option}.{name}", interval)
    attempts = policy.max_attempts
    if attempts is not None:
        if type(attempts) is not int or not 1 <= attempts <= _ATTEMPTS_MAX:
            refuse(f"{option}.max_attempts", f"a number from 1 to {_ATTEMPTS_MAX}", attempts)
        fields["retry_policy_max_attempts"] = attempts
    factor = policy.exponentiation_factor
    if factor is not None:
        if type(factor) not in (int, float) or not 1 <= factor < math.inf:
            refuse(f"{option}.exponentiation_factor", "a number of 1 or more", factor)
        fields["retry_policy_exponentiation_factor"] = float(factor)
    then = policy.on_max_attempts
    if then is not None:
        if then not in _ON_MAX_ATTEMPTS:
            refuse(f"{option}.on_max_attempts", "'pause' or 'kill'", then)
        fields["retry_policy_on_max_attempts"] = then.upper()
    return fields
