"""The retry policy of invocations, as users give it to services and handlers."""

from datetime import timedelta
from typing import Literal

import msgspec


class InvocationRetryPolicy(msgspec.Struct, frozen=True):
    """How a failed attempt of an invocation is tried again; None leaves a field to the node.

    Attributes:
        initial_interval: before the second attempt.
        exponentiation_factor: by which the interval grows from one attempt to the next.
        max_interval: between any two attempts.
        max_attempts: the first one included; after that many, `on_max_attempts` happens.
        on_max_attempts: ``pause`` keeps the invocation for somebody to resume, ``kill`` ends it.
    """

    initial_interval: timedelta | None = None
    exponentiation_factor: float | None = None
    max_interval: timedelta | None = None
    max_attempts: int | None = None
    on_max_attempts: Literal["pause", "kill"] | None = None
