"""How invocations of a handler are handled: what handler, service and node say, put together."""

from typing import Any, Final

import msgspec

from ..core.protocol.session import HandlingOptions
from ..core.retry import RetryPolicy

_MS: Final = 1_000_000
DURATION_NS_MAX: Final = 100 * 366 * 24 * 3600 * 10**9
"""A longer duration is taken for this one: a time that far ahead is still one of 64 bits."""
_FACTOR_MAX: Final = 1000.0
ON_EXHAUSTED_KILL: Final = "KILL"


class HandlingDefaults(msgspec.Struct, frozen=True):
    """What holds where neither handler nor service says anything; times in ns.

    Attributes:
        pause_when_exhausted: after the last attempt wait for somebody, instead of failing.
        plain_retention_ns: of results and journals of calls without an idempotency key.
    """

    retry: RetryPolicy = RetryPolicy()
    pause_when_exhausted: bool = True
    inactivity_timeout_ns: int = 60 * 10**9
    abort_timeout_ns: int = 600 * 10**9
    plain_retention_ns: int = 3600 * 10**9
    journal_retention_ns: int = 24 * 3600 * 10**9
    idempotency_retention_ns: int = 24 * 3600 * 10**9
    workflow_retention_ns: int = 24 * 3600 * 10**9


class Handling(msgspec.Struct, frozen=True, gc=False):
    """How invocations of one handler are handled; times in ns.

    Attributes:
        completion_retention_ns: of results of calls with an idempotency key, or workflow runs.
        plain_retention_ns: of results and journals of calls without.
    """

    retry: RetryPolicy
    pause_when_exhausted: bool
    inactivity_timeout_ns: int
    abort_timeout_ns: int
    plain_retention_ns: int
    journal_retention_ns: int
    completion_retention_ns: int
    lazy_state: bool
    private: bool

    def retentions_ns(self, *, known_again: bool) -> tuple[int, int]:
        """How long the result and the journal are kept, of a call that names its invocation."""
        if known_again:
            return self.completion_retention_ns, self.journal_retention_ns
        return self.plain_retention_ns, self.plain_retention_ns


def resolve_handling(
    handler: HandlingOptions,
    service: HandlingOptions,
    defaults: HandlingDefaults,
    *,
    workflow_run: bool,
) -> Handling:
    """The first of handler, service and defaults that says something, for each option."""

    def nanoseconds(name: str, default_ns: int) -> int:
        value = _first(name, handler, service)
        return _bounded(default_ns if value is None else int(value) * _MS)

    if workflow_run:
        completion_ns = nanoseconds("workflow_completion_retention", defaults.workflow_retention_ns)
    else:
        completion_ns = nanoseconds("idempotency_retention", defaults.idempotency_retention_ns)
    on_exhausted = _first("retry_policy_on_max_attempts", handler, service)
    return Handling(
        retry=_retry(handler, service, defaults.retry),
        # A word that is not known pauses: that loses nothing.
        pause_when_exhausted=defaults.pause_when_exhausted
        if on_exhausted is None
        else on_exhausted != ON_EXHAUSTED_KILL,
        inactivity_timeout_ns=nanoseconds("inactivity_timeout", defaults.inactivity_timeout_ns),
        abort_timeout_ns=nanoseconds("abort_timeout", defaults.abort_timeout_ns),
        plain_retention_ns=nanoseconds("journal_retention", defaults.plain_retention_ns),
        journal_retention_ns=nanoseconds("journal_retention", defaults.journal_retention_ns),
        completion_retention_ns=completion_ns,
        lazy_state=bool(_first("enable_lazy_state", handler, service)),
        private=bool(service.ingress_private) or bool(handler.ingress_private),
    )


def _retry(handler: HandlingOptions, service: HandlingOptions, default: RetryPolicy) -> RetryPolicy:
    initial = _first("retry_policy_initial_interval", handler, service)
    longest = _first("retry_policy_max_interval", handler, service)
    attempts = _first("retry_policy_max_attempts", handler, service)
    factor = _first("retry_policy_exponentiation_factor", handler, service)
    return RetryPolicy(
        initial_interval_ns=_bounded(
            default.initial_interval_ns if initial is None else initial * _MS
        ),
        factor=default.factor if factor is None else min(max(1.0, factor), _FACTOR_MAX),
        interval_max_ns=_bounded(default.interval_max_ns if longest is None else longest * _MS),
        attempts_max=default.attempts_max if attempts is None else attempts,
        jitter=default.jitter,
    )


def _bounded(duration_ns: int) -> int:
    return max(0, min(duration_ns, DURATION_NS_MAX))


def _first(name: str, handler: HandlingOptions, service: HandlingOptions) -> Any:
    value = getattr(handler, name)
    return getattr(service, name) if value is None else value
