"""Running a scenario once for each place where something could crash on the way."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from .crash_points import CrashAt, CrashPoint
from .environment import AppLike, Environment
from .errors import CrashMismatchError

T = TypeVar("T")


async def crash_everywhere(
    app: AppLike,
    scenario: Callable[[Environment], Awaitable[T]],
    *,
    what: Literal["worker", "node"] = "worker",
    before: bool = False,
    steps_max: int = 1000,
    **options: Any,
) -> T:
    """Run `scenario` without a crash, then once for each step with one after it; the first result.

    Each run has an environment of its own. What a scenario gives must be the same in all of them,
    and what it changes outside, such as a list that stands for a mailbox, it must set up itself.

    Args:
        app: as `Environment` takes it.
        scenario: calls handlers and gives what is to be compared.
        what: what crashes and comes back.
        before: crash before a step is recorded instead: the step is then run twice.
        steps_max: so many steps are tried.
        options: of `Environment`.

    Raises CrashMismatchError, and what the scenario raises, with a note on where the crash was.
    """
    async with Environment(app, **options) as env:
        expected = await scenario(env)
    points = env.crash_points[:steps_max]
    for step, point in enumerate(points, 1):
        crash = CrashAt(step, what, before)
        try:
            async with Environment(app, crash=crash, **options) as env:
                found = await scenario(env)
        except BaseException as error:
            error.add_note(_place(crash, point, len(points)))
            raise
        if found != expected:
            raise CrashMismatchError(
                f"{_place(crash, point, len(points))} gives {found!r}, none gives {expected!r}"
            )
    return expected


def _place(crash: CrashAt, point: CrashPoint, count: int) -> str:
    when = "before" if crash.before else "after"
    return f"a crash of the {crash.what} {when} step {crash.step} of {count} ({point})"
