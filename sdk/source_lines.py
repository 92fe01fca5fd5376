"""Where in the user's code something happened, for messages that name file and line."""

import asyncio
import os
import sysconfig
from collections.abc import Callable, Iterator
from types import CodeType, CoroutineType, FrameType
from typing import Any, Final

_HERE: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LINKED: Final = os.path.realpath(os.path.dirname(__file__)) + os.sep
_DRIVER: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "durable_loop.py")
_ASYNCIO: Final = os.path.dirname(asyncio.__file__) + os.sep
_LIBRARIES: Final = tuple(
    sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "purelib", "platlib")
)


def _is_ours(file: str) -> bool:
    return file.startswith((_HERE, _LINKED, _ASYNCIO, "<"))


def caller_line(frame: FrameType | None, within_handler: bool = False) -> str:
    """``file:line`` of the innermost frame of the user's own code, else of any library's.

    With `within_handler` no further than to where the SDK runs handlers from: what lies beyond is
    the program that runs the worker. Nothing is found then unless a handler's code is running.
    """
    nearest = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if within_handler and file == _DRIVER and frame.f_code.co_name == "run_ready":
            return nearest
        if not _is_ours(file):
            if not file.startswith(_LIBRARIES):
                return f"{file}:{frame.f_lineno}"
            nearest = nearest or f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return nearest or "an unknown line"


def calling_frame(frame: FrameType) -> FrameType:
    """The innermost frame from `frame` on that is not the SDK's own."""
    caller: FrameType | None = frame
    while caller is not None and _is_ours(caller.f_code.co_filename):
        caller = caller.f_back
    return frame if caller is None else caller


def function_line(function: Callable[..., Any]) -> str:
    """``file:line`` of a function's definition."""
    code: CodeType | None = getattr(function, "__code__", None)
    if code is None:
        return repr(function)
    return f"{code.co_filename}:{code.co_firstlineno}"


def _awaited(coroutine: Any) -> Iterator[FrameType]:
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            yield frame
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)


def waiting_line(coroutine: "CoroutineType[Any, Any, Any] | Any") -> str:
    """``file:line`` at which a blocked coroutine waits: the innermost line of the user's code."""
    found = ""
    for frame in _awaited(coroutine):
        file = frame.f_code.co_filename
        if not found or (not _is_ours(file) and not file.startswith(_LIBRARIES)):
            found = f"{file}:{frame.f_lineno}"
    return found or "an unknown line"
