"""Workflows: services whose main handler runs once per key."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ..core.protocol.session import HandlerKind, ServiceKind
from .handling import ContextManagers
from .retry_policy import InvocationRetryPolicy
from .serde import DEFAULT, JSON_CONTENT_TYPE, Serde
from .service import F, ServiceBase


class Workflow(ServiceBase):
    """A workflow: a main handler that runs once per key, and others that run beside it.

    The others see the state and the promises of the main handler's run while it runs and for the
    time of its retention, and can resolve its promises.
    """

    kind = ServiceKind.WORKFLOW

    def __init__(
        self,
        name: str,
        description: str | None = None,
        metadata: dict[str, str] | None = None,
        inactivity_timeout: timedelta | None = None,
        abort_timeout: timedelta | None = None,
        journal_retention: timedelta | None = None,
        idempotency_retention: timedelta | None = None,
        enable_lazy_state: bool | None = None,
        state_preload: bool | list[str] | None = None,
        ingress_private: bool | None = None,
        invocation_retry_policy: InvocationRetryPolicy | None = None,
        invocation_context_managers: ContextManagers | None = None,
    ) -> None:
        """Take the name that callers use, and options that hold for all handlers.

        `state_preload` and `enable_lazy_state` are as for virtual objects. Raises
        InvalidOptionError and UnsupportedOptionError.
        """
        self._set_up(
            name,
            description,
            metadata,
            invocation_context_managers,
            {
                "inactivity_timeout": inactivity_timeout,
                "abort_timeout": abort_timeout,
                "journal_retention": journal_retention,
                "idempotency_retention": idempotency_retention,
                "enable_lazy_state": enable_lazy_state,
                "state_preload": state_preload,
                "ingress_private": ingress_private,
                "invocation_retry_policy": invocation_retry_policy,
            },
        )

    def main(
        self,
        name: str | None = None,
        accept: str = JSON_CONTENT_TYPE,
        content_type: str = JSON_CONTENT_TYPE,
        input_serde: Serde[Any] = DEFAULT,
        output_serde: Serde[Any] = DEFAULT,
        metadata: dict[str, str] | None = None,
        inactivity_timeout: timedelta | None = None,
        abort_timeout: timedelta | None = None,
        journal_retention: timedelta | None = None,
        workflow_retention: timedelta | None = None,
        enable_lazy_state: bool | None = None,
        state_preload: bool | list[str] | None = None,
        ingress_private: bool | None = None,
        invocation_retry_policy: InvocationRetryPolicy | None = None,
        invocation_context_managers: ContextManagers | None = None,
        *,
        timeout: timedelta | None = None,
    ) -> Callable[[F], F]:
        """Make a function the main handler: ``async def run(ctx: WorkflowContext, argument: T)``.

        It runs once per key, and its result is kept for `workflow_retention`. `timeout` bounds the
        whole run. The function itself is returned. Raises HandlerSignatureError for a second main
        handler, InvalidOptionError and UnsupportedOptionError.
        """
        return self._decorator(
            name,
            HandlerKind.WORKFLOW,
            (input_serde, output_serde, accept, content_type),
            metadata,
            timeout,
            invocation_context_managers,
            {
                "inactivity_timeout": inactivity_timeout,
                "abort_timeout": abort_timeout,
                "journal_retention": journal_retention,
                "workflow_retention": workflow_retention,
                "enable_lazy_state": enable_lazy_state,
                "state_preload": state_preload,
                "ingress_private": ingress_private,
                "invocation_retry_policy": invocation_retry_policy,
            },
        )

    def handler(
        self,
        name: str | None = None,
        accept: str = JSON_CONTENT_TYPE,
        content_type: str = JSON_CONTENT_TYPE,
        input_serde: Serde[Any] = DEFAULT,
        output_serde: Serde[Any] = DEFAULT,
        metadata: dict[str, str] | None = None,
        inactivity_timeout: timedelta | None = None,
        abort_timeout: timedelta | None = None,
        journal_retention: timedelta | None = None,
        idempotency_retention: timedelta | None = None,
        enable_lazy_state: bool | None = None,
        state_preload: bool | list[str] | None = None,
        ingress_private: bool | None = None,
        invocation_retry_policy: InvocationRetryPolicy | None = None,
        invocation_context_managers: ContextManagers | None = None,
        *,
        timeout: timedelta | None = None,
    ) -> Callable[[F], F]:
        """Make a function a handler: ``async def status(ctx: WorkflowSharedContext, argument: T)``.

        It runs beside the main handler and reads its state. `timeout` bounds the whole invocation.
        The function itself is returned. Raises HandlerSignatureError, InvalidOptionError and
        UnsupportedOptionError.
        """
        return self._decorator(
            name,
            HandlerKind.SHARED,
            (input_serde, output_serde, accept, content_type),
            metadata,
            timeout,
            invocation_context_managers,
            {
                "inactivity_timeout": inactivity_timeout,
                "abort_timeout": abort_timeout,
                "journal_retention": journal_retention,
                "idempotency_retention": idempotency_retention,
                "enable_lazy_state": enable_lazy_state,
                "state_preload": state_preload,
                "ingress_private": ingress_private,
                "invocation_retry_policy": invocation_retry_policy,
            },
        )
