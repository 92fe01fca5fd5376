"""The story end to end on real processes: call, kill the node, restart it, nothing is lost.

Run by ``make demo`` with the environment's Python. Every wait is bounded; on the first answer that
is not as expected the logs' tails are printed and the exit status is 1. Leaves nothing behind.
"""

import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

PERDURE = Path(sys.executable).with_name("perdure")
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

START_SECONDS_MAX = 15.0
ANSWER_SECONDS_MAX = 15.0
STOP_SECONDS_MAX = 10.0
LOG_LINES_SHOWN = 25

DEFAULTS = {
    "ingress-http": "127.0.0.1:8080",
    "ingress-grpc": "127.0.0.1:8081",
    "admin": "127.0.0.1:9070",
    "node": "127.0.0.1:5122",
}
PARTITIONS = 8


class DemoFailedError(Exception):
    """Something was not as it has to be; says what."""


def is_free(address: str) -> bool:
    """Whether nobody listens on an address; one that lingers after a close is free."""
    host, port = address.split(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
    return True


def choose_addresses() -> dict[str, str]:
    """The default addresses where they are free, others where not."""
    chosen: dict[str, str] = {}
    # All probes stay open until the end, so that no port is given out twice.
    probes: list[socket.socket] = []
    for option, address in DEFAULTS.items():
        if is_free(address):
            chosen[option] = address
            continue
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        probes.append(probe)
        chosen[option] = f"127.0.0.1:{probe.getsockname()[1]}"
    for probe in probes:
        probe.close()
    return chosen


class Demo:
    """The processes, the directory and the count of steps."""

    def __init__(self) -> None:
        """Choose addresses and make the directory."""
        self.addresses = choose_addresses()
        self.name = f"demo-{os.getpid()}"
        self.directory = Path(tempfile.mkdtemp(prefix="perdure-demo-"))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._step = 0
        # What is set for the user's own node must not change this one.
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PERDURE__")
        }

    def step(self, text: str) -> None:
        """Begin a step: a number and what is done."""
        self._step += 1
        print(f"{self._step:2}  {text}", flush=True)

    def answer(self, text: str) -> None:
        """What came of it."""
        for line in text.rstrip().splitlines():
            print(f"      {line}", flush=True)

    # Processes

    def start(self, name: str, arguments: list[str]) -> None:
        """Start a process of Perdure whose output goes to a file of its name."""
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [str(PERDURE), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                # A Ctrl-C at the terminal is ours alone to handle, in order.
                start_new_session=True,
            )

    def flags(self, *options: str) -> list[str]:
        """The flags of those addresses that are not the default ones."""
        return [
            part
            for option in options
            if self.addresses[option] != DEFAULTS[option]
            for part in (f"--{option}", self.addresses[option])
        ]

    def start_node(self) -> float:
        """Start the node and wait for its listeners; gives the seconds it took."""
        arguments = ["server", "--base-dir", str(self.directory / "data")]
        arguments += ["--set", f"node.name={self.name}", *self.flags(*DEFAULTS)]
        self.step(f"$ {shlex.join(['perdure', *arguments])}")
        began = time.monotonic()
        self.start("node", arguments)
        for address in self.addresses.values():
            self.wait_for(f"the node to listen on {address}", lambda at=address: listens(at))
        self.wait_for("every partition to have a leader", self.leads)
        return time.monotonic() - began

    def leads(self) -> bool:
        """Whether the node that answers is ours, and not one that had the port before it."""
        host, port = self.addresses["admin"].split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=5)
        try:
            connection.request("GET", "/partitions")
            rows = json.loads(connection.getresponse().read())["partitions"]
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return all((row["node"], row["role"]) == (self.name, "leader") for row in rows)

    def start_worker(self, name: str) -> None:
        """Start a worker that runs one of the examples."""
        arguments = ["worker", f"examples/{name}.py", "--connect", self.addresses["node"]]
        self.step(f"$ {shlex.join(['perdure', *arguments])}")
        arguments[1] = str(EXAMPLES / f"{name}.py")
        self.start(name, arguments)

    def wait_for(self, what: str, done: Callable[[], bool]) -> None:
        """Wait until `done` holds, as long as every process lives."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while not done():
            self.check_alive()
            if time.monotonic() > deadline:
                raise DemoFailedError(f"waited {START_SECONDS_MAX:.0f} s for {what}")
            time.sleep(0.02)

    def check_alive(self) -> None:
        """Every process that was started still runs."""
        for name, process in self.processes.items():
            status = process.poll()
            if status is not None:
                raise DemoFailedError(f"{name} ended by itself with status {status}")

    def stop(self, name: str) -> None:
        """Ask a process to end, and insist that it does so in good order."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise DemoFailedError(f"{name} did not stop in {STOP_SECONDS_MAX:.0f} s") from None
        if status != 0:
            raise DemoFailedError(f"{name} ended with status {status} when asked to stop")

    def clean_up(self) -> None:
        """Leave nothing behind, whatever happened before."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def show_logs(self) -> None:
        """The ends of all logs, for who has to find out why."""
        for log in sorted(self.directory.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            print(f"\n--- the end of {log.name}", file=sys.stderr)
            print("\n".join(lines), file=sys.stderr)

    # Requests

    def command(self, *arguments: str, show: bool = True) -> str:
        """Run a command of the CLI and give what it printed.

        Tried again while no worker has announced the service: workers start beside us.
        """
        if show:
            self.step(f"$ {shlex.join(['perdure', *arguments])}")
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        while True:
            done = subprocess.run(
                [str(PERDURE), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=ANSWER_SECONDS_MAX,
                env=self._environment,
                check=False,
            )
            if done.returncode == 0:
                return done.stdout
            if "PD0501" not in done.stderr or time.monotonic() > deadline:
                raise DemoFailedError(
                    f"perdure {shlex.join(arguments)} ended with status {done.returncode}:\n"
                    f"{done.stdout}{done.stderr}"
                )
            self.check_alive()
            time.sleep(0.1)

    def post(self, path: str, body: object, idempotency_key: str | None = None) -> object:
        """One request over HTTP, sent until it is answered; the key makes it count once."""
        headers = {"content-type": "application/json"}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        payload = b"" if body is None else json.dumps(body).encode()
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        last = "no answer"
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection(self.addresses["ingress-http"], timeout=5)
            try:
                connection.request("POST", path, payload, headers)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as error:
                last = f"{type(error).__name__}: {error}"
            else:
                if response.status in (200, 202):
                    return json.loads(answer) if answer else None
                last = f"HTTP {response.status} {answer.decode(errors='replace')}"
                # No worker yet (404), overloaded, not leading yet: these pass by themselves.
                if response.status not in (404, 429, 503):
                    break
            finally:
                connection.close()
            time.sleep(0.05)
        raise DemoFailedError(f"POST {path}: {last}")

    def add(self, amount: int, idempotency_key: str, expected: int, note: str = "") -> None:
        """One add to the counter of ann, shown, with the answer that it has to get."""
        address = self.addresses["ingress-http"]
        self.step(
            f"POST http://{address}/Counter/ann/add {amount}   idempotency-key: {idempotency_key}"
        )
        value = self.post("/Counter/ann/add", amount, idempotency_key)
        expect(value, expected)
        self.answer(f"{value}{note}")

    def read_counter(self, expected: int, note: str = "") -> None:
        """The counter of ann, shown."""
        self.step(f"POST http://{self.addresses['ingress-http']}/Counter/ann/get")
        value = self.post("/Counter/ann/get", None)
        expect(value, expected)
        self.answer(f"{value}{note}")


def listens(address: str) -> bool:
    """Whether somebody takes connections at an address."""
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def expect(got: object, wanted: object) -> None:
    """Raise unless an answer is as it has to be."""
    if got != wanted:
        raise DemoFailedError(f"the answer is {got!r}, expected was {wanted!r}")


def kill_under_load(demo: Demo, count: int) -> None:
    """Add 1 `count` times from four clients, and kill the node while they are at it.

    Each client sends an add until it is answered, under its own idempotency key: an add whose
    answer the crash took away is sent twice and must count once.
    """
    node = demo.processes["node"]
    demo.step(f"{count} adds of 1 from four clients, and in the midst of it: kill -9 {node.pid}")
    answered = threading.Semaphore(0)

    def send(number: int) -> None:
        demo.post("/Counter/ann/add", 1, f"burst-{number}")
        answered.release()

    with ThreadPoolExecutor(4) as clients:
        sent = [clients.submit(send, number) for number in range(count)]
        try:
            for _ in range(count // 4):
                if not answered.acquire(timeout=ANSWER_SECONDS_MAX):
                    raise DemoFailedError("no answer to any of the adds")
            del demo.processes["node"]
            node.kill()
            node.wait()
            before = sum(future.done() for future in sent)
            demo.answer(f"killed after {before} answers")
            seconds = demo.start_node()
            for future in sent:
                future.result()
        except BaseException:
            clients.shutdown(wait=False, cancel_futures=True)
            raise
    demo.answer(f"up again after {seconds:.1f} s, the other {count - before} adds were answered")


def wait_through_a_crash(demo: Demo) -> None:
    """A handler that waits for an answer from outside, while everything that runs it dies."""
    demo.start_worker("approval")
    demo.step(f"POST http://{demo.addresses['ingress-http']}/Article/first/publish/send")
    demo.post("/Article/first/publish/send", None, "publish")
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while not (awakeable := demo.post("/Article/first/awaited", None)):
        if time.monotonic() > deadline:
            raise DemoFailedError("the handler asks for no approval")
        time.sleep(0.05)
    demo.answer(f"it waits for an answer to {awakeable}")

    demo.step("kill -9 the node and the worker that it waits on")
    for name in ("approval", "node"):
        process = demo.processes.pop(name)
        process.kill()
        process.wait()
    demo.start_node()
    demo.start_worker("approval")
    ingress, admin = demo.flags("ingress-grpc"), demo.flags("admin")
    where = ["--admin", f"http://{admin[1]}"] if admin else []
    listed = demo.command("invocations", "list", "--service", "Article", *where)
    demo.answer(listed)

    where = ["--ingress", ingress[1]] if ingress else []
    demo.command("awakeables", "resolve", awakeable, "true", *where)
    demo.step(f"POST http://{demo.addresses['ingress-http']}/Article/first/publish   as before")
    expect(demo.post("/Article/first/publish", None, "publish"), "published")
    demo.answer('"published"   the handler went on where it waited')


def show_partitions(demo: Demo) -> None:
    """What an operator sees: every partition has a leader and nothing is left to apply."""
    admin = demo.flags("admin")
    where = ["--admin", f"http://{admin[1]}"] if admin else []
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while True:
        listed = json.loads(demo.command("partitions", "list", *where, "-o", "json", show=False))
        rows = listed["partitions"]
        settled = all(row["role"] == "leader" and row["lag"] == 0 for row in rows)
        if settled or time.monotonic() > deadline:
            break
    expect((len(rows), settled), (PARTITIONS, True))
    demo.answer(demo.command("partitions", "list", *where))
    demo.answer(demo.command("partitions", "inspect", "0", *where))


def tell(demo: Demo) -> None:
    """The story."""
    demo.answer(f"node is up after {demo.start_node():.1f} s")
    demo.start_worker("greeter")
    demo.start_worker("counter")

    ingress = demo.flags("ingress-grpc")
    where = ["--ingress", ingress[1]] if ingress else []
    printed = demo.command("call", "Greeter/greet", '"Ann"', *where)
    expect(json.loads(printed), "Hello Ann")
    demo.answer(printed)

    demo.add(5, "first", 5)
    demo.add(7, "second", 12)
    demo.add(30, "third", 42)
    demo.add(7, "second", 12, "   the same key is the same call: its stored answer")
    demo.read_counter(42)

    kill_under_load(demo, 40)
    demo.read_counter(82, "   42 + 40: every add counted once")
    demo.add(8, "fourth", 90)
    demo.add(5, "first", 5, "   answered before the crash, not counted again")
    demo.read_counter(90)

    wait_through_a_crash(demo)

    show_partitions(demo)

    demo.step("stop workers and node")
    for name in ("greeter", "counter", "approval", "node"):
        demo.stop(name)
    demo.answer("all ended in good order")


def leave(number: int, frame: object) -> NoReturn:
    """Turn a signal into an exception, so that everything is cleaned up on the way out."""
    raise KeyboardInterrupt


def main() -> int:
    """Tell the story; 0 when every answer was as expected."""
    if not PERDURE.exists():
        print(f"error: {PERDURE} is not there; run make setup", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, leave)
    began = time.monotonic()
    demo = Demo()
    try:
        tell(demo)
    except (DemoFailedError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError) as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        demo.show_logs()
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        print("\nstopped", file=sys.stderr)
        return 1
    finally:
        demo.clean_up()
    print(f"\nEvery answer was as expected, in {time.monotonic() - began:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
