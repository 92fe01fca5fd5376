"""What a simulated loop refuses: every call that reaches outside, where nothing can be repeated."""

import asyncio
from collections.abc import Callable
from typing import Any


class OutsideSimulationError(RuntimeError):
    """Something asked the simulated loop for the world outside."""


def _refuse(name: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise OutsideSimulationError(
            f"loop.{name} reaches outside the simulation, where nothing can be repeated; take it "
            "through a port (Clock, Random, Transport, KvStore)"
        )

    refuse.__name__ = name
    refuse.__doc__ = "Raises OutsideSimulationError."
    return refuse


class NothingOutside(asyncio.AbstractEventLoop):
    """An event loop without threads, sockets, processes and signals."""

    run_in_executor: Any = _refuse("run_in_executor")
    set_default_executor: Any = _refuse("set_default_executor")
    getaddrinfo: Any = _refuse("getaddrinfo")
    getnameinfo: Any = _refuse("getnameinfo")
    create_connection: Any = _refuse("create_connection")
    create_server: Any = _refuse("create_server")
    create_unix_connection: Any = _refuse("create_unix_connection")
    create_unix_server: Any = _refuse("create_unix_server")
    create_datagram_endpoint: Any = _refuse("create_datagram_endpoint")
    connect_accepted_socket: Any = _refuse("connect_accepted_socket")
    connect_read_pipe: Any = _refuse("connect_read_pipe")
    connect_write_pipe: Any = _refuse("connect_write_pipe")
    start_tls: Any = _refuse("start_tls")
    sendfile: Any = _refuse("sendfile")
    subprocess_shell: Any = _refuse("subprocess_shell")
    subprocess_exec: Any = _refuse("subprocess_exec")
    add_reader: Any = _refuse("add_reader")
    remove_reader: Any = _refuse("remove_reader")
    add_writer: Any = _refuse("add_writer")
    remove_writer: Any = _refuse("remove_writer")
    sock_recv: Any = _refuse("sock_recv")
    sock_recv_into: Any = _refuse("sock_recv_into")
    sock_recvfrom: Any = _refuse("sock_recvfrom")
    sock_recvfrom_into: Any = _refuse("sock_recvfrom_into")
    sock_sendall: Any = _refuse("sock_sendall")
    sock_sendto: Any = _refuse("sock_sendto")
    sock_connect: Any = _refuse("sock_connect")
    sock_accept: Any = _refuse("sock_accept")
    sock_sendfile: Any = _refuse("sock_sendfile")
    add_signal_handler: Any = _refuse("add_signal_handler")
    remove_signal_handler: Any = _refuse("remove_signal_handler")
