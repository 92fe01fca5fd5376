"""What a handler may not ask of its event loop: everything whose outcome a replay cannot repeat."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final

from .errors import ForbiddenCallError
from .source_lines import caller_line

_IN_A_STEP: Final = "do it in a step: await ctx.run(name, function)"
_FORBIDDEN: Final[dict[str, str]] = {
    "call_soon_threadsafe": _IN_A_STEP,
    "run_in_executor": _IN_A_STEP,
    "set_default_executor": _IN_A_STEP,
    "getaddrinfo": _IN_A_STEP,
    "getnameinfo": _IN_A_STEP,
    "create_connection": _IN_A_STEP,
    "create_server": _IN_A_STEP,
    "create_unix_connection": _IN_A_STEP,
    "create_unix_server": _IN_A_STEP,
    "create_datagram_endpoint": _IN_A_STEP,
    "connect_accepted_socket": _IN_A_STEP,
    "connect_read_pipe": _IN_A_STEP,
    "connect_write_pipe": _IN_A_STEP,
    "start_tls": _IN_A_STEP,
    "sendfile": _IN_A_STEP,
    "subprocess_shell": _IN_A_STEP,
    "subprocess_exec": _IN_A_STEP,
    "add_reader": _IN_A_STEP,
    "remove_reader": _IN_A_STEP,
    "add_writer": _IN_A_STEP,
    "remove_writer": _IN_A_STEP,
    "sock_recv": _IN_A_STEP,
    "sock_recv_into": _IN_A_STEP,
    "sock_recvfrom": _IN_A_STEP,
    "sock_recvfrom_into": _IN_A_STEP,
    "sock_sendall": _IN_A_STEP,
    "sock_sendto": _IN_A_STEP,
    "sock_connect": _IN_A_STEP,
    "sock_accept": _IN_A_STEP,
    "sock_sendfile": _IN_A_STEP,
    "add_signal_handler": "signals belong to the process, not to one invocation",
    "remove_signal_handler": "signals belong to the process, not to one invocation",
    "set_task_factory": "the durable loop makes its own tasks",
    "set_exception_handler": "the durable loop reports exceptions itself",
    "set_debug": "the durable loop has no debug mode",
    "run_forever": "the worker runs the loop",
    "run_until_complete": "the worker runs the loop",
    "stop": "the worker runs the loop",
    "close": "the worker runs the loop",
    "shutdown_asyncgens": "the worker runs the loop",
    "shutdown_default_executor": "the worker runs the loop",
}


def _forbid(name: str, instead: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise ForbiddenCallError(
            f"{caller_line(sys._getframe(1))}: loop.{name} cannot be replayed in a handler; "
            f"{instead}"
        )

    refuse.__name__ = name
    refuse.__doc__ = f"Raises ForbiddenCallError: {instead}."
    return refuse


class ReplayableCallsOnly(asyncio.AbstractEventLoop):
    """An event loop on which every call that reaches outside raises ForbiddenCallError."""


for _name, _instead in _FORBIDDEN.items():
    setattr(ReplayableCallsOnly, _name, _forbid(_name, _instead))
