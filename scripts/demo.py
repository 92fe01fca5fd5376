"""The story end to end on real processes: three nodes, a leader killed under load, nothing lost.

Run by ``make demo`` with the environment's Python. Every wait is bounded; on the first answer that
is not as expected the logs' tails are printed and the exit status is 1. Leaves nothing behind.
"""

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import grpc

from perdure.core.errors import PerdureError
from perdure.core.hashing import keyed_partition_key
from perdure.core.ids import partition_of
from perdure.node.local_cluster.directory import ClusterDirectory
from perdure.node.local_cluster.launcher import LocalCluster
from perdure.node.local_cluster.picture import ClusterPicture
from perdure.proto.generated import ingress_pb2 as wire
from perdure.proto.generated.ingress_pb2_grpc import IngressStub

PERDURE = Path(sys.executable).with_name("perdure")
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
APPS = ("greeter", "counter", "approval")

NODES = 3
KEYS = ("ann", "bob", "eve", "joe")
ADDS_OF_A_KEY = 50
CLIENTS = 8
START_SECONDS_MAX = 30.0
ANSWER_SECONDS_MAX = 30.0
TRY_SECONDS_MAX = 5.0
LOG_LINES_SHOWN = 25
PASSING = (
    # No worker has announced the service yet; the node is gone, or does not lead; too much at once.
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class DemoFailedError(Exception):
    """Something was not as it has to be; says what."""


class Demo:
    """The cluster, clients of every node, and the count of steps."""

    def __init__(self, cluster: LocalCluster, environment: dict[str, str]) -> None:
        """Take a cluster that has not been started."""
        self.cluster = cluster
        self.environment = environment
        self.addresses = {node.name: node.addresses for node in cluster.directory.plan.nodes}
        # A channel of its own per node: each waits a little before it tries a dead node again.
        options = (("grpc.max_reconnect_backoff_ms", 500), ("grpc.enable_http_proxy", 0))
        self.channels = [
            grpc.insecure_channel(doors["ingress_grpc"], options=options)
            for doors in self.addresses.values()
        ]
        self.stubs: list[Any] = [IngressStub(channel) for channel in self.channels]
        self._step = 0

    def close(self) -> None:
        """Close the clients."""
        for channel in self.channels:
            channel.close()

    def step(self, text: str) -> None:
        """Begin a step: a number and what is done."""
        self._step += 1
        print(f"{self._step:2}  {text}", flush=True)

    def answer(self, text: str) -> None:
        """What came of it."""
        for line in text.rstrip().splitlines():
            print(f"      {line}", flush=True)

    def wait_for(self, what: str, done: Callable[[ClusterPicture], bool]) -> ClusterPicture:
        """Wait until `done` holds of the cluster's picture."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while not done(picture := self.cluster.picture()):
            if time.monotonic() > deadline:
                raise DemoFailedError(f"waited {START_SECONDS_MAX:.0f} s for {what}")
            time.sleep(0.02)
        return picture

    def wait_until_whole(self) -> ClusterPicture:
        """Every partition is led, and every replica has applied what its leader has."""
        return self.wait_for(
            "all partitions to be led and all replicas to have caught up",
            lambda picture: picture.ready and not any(row.lag for row in picture.partitions),
        )

    # Requests

    def call(
        self, service: str, handler: str, value: object, key: str | None, idempotency_key: str = ""
    ) -> Any:
        """Call over gRPC, at one node after the other until one answers.

        The idempotency key makes it one call, however often it is sent.
        """
        body = b"" if value is None else json.dumps(value).encode()
        invocation = wire.InvocationRequest(
            target=wire.Target(service=service, handler=handler, key=key),
            body=body,
            idempotency_key=idempotency_key or None,
        )
        request = wire.CallRequest(invocation=invocation)
        deadline = time.monotonic() + ANSWER_SECONDS_MAX
        first = hash((service, key, idempotency_key)) % len(self.stubs)
        for number in itertools.count(first):
            stub = self.stubs[number % len(self.stubs)]
            try:
                result = stub.Call(request, timeout=TRY_SECONDS_MAX)
            except grpc.RpcError as error:
                if error.code() not in PASSING or time.monotonic() > deadline:
                    raise DemoFailedError(f"{service}/{handler}: {error}") from None
                time.sleep(0.02)
                continue
            if result.HasField("failure"):
                raise DemoFailedError(f"{service}/{handler}: {result.failure.message}")
            return json.loads(result.value) if result.value else None
        raise AssertionError

    def command(self, *arguments: str) -> str:
        """Run a command of the CLI, shown, and give what it printed."""
        self.step(f"$ {shlex.join(['perdure', *arguments])}")
        done = subprocess.run(
            [str(PERDURE), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS_MAX,
            env=self.environment,
            check=False,
        )
        if done.returncode != 0:
            raise DemoFailedError(f"it ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout


def expect(got: object, wanted: object) -> None:
    """Raise unless an answer is as it has to be."""
    if got != wanted:
        raise DemoFailedError(f"the answer is {got!r}, expected was {wanted!r}")


def leader_of(picture: ClusterPicture, key: str) -> str:
    """Who leads the partition of a key."""
    number = partition_of(keyed_partition_key(key), len(picture.partitions))
    leader = picture.partitions[number].leader
    if leader is None:
        raise DemoFailedError(f"nobody leads partition {number}")
    return leader


def leads_text(picture: ClusterPicture) -> str:
    """Who leads what."""
    lines = []
    for node in picture.nodes:
        led = [str(row.partition) for row in picture.partitions if row.leader == node.name]
        lines.append(f"{node.name} {node.ending or node.condition}, leads {' '.join(led) or '-'}")
    return "\n".join(lines)


def start(demo: Demo) -> None:
    """Three nodes and a worker for each app."""
    apps = " ".join(f"--app examples/{name}.py" for name in APPS)
    demo.step(f"three nodes and three workers, as by: perdure up --nodes {NODES} {apps}")
    began = time.monotonic()
    demo.cluster.start()
    picture = demo.cluster.wait_until_ready(START_SECONDS_MAX)
    demo.cluster.start_workers()
    demo.answer(
        f"all {len(picture.partitions)} partitions are led after {time.monotonic() - began:.1f} s"
    )
    demo.answer(leads_text(picture))


def call_any_node(demo: Demo) -> None:
    """Whichever node is asked, the one that leads the key's partition does it."""
    demo.step("gRPC Greeter/greet and Counter/…/add, at any of the three nodes")
    greeting = demo.call("Greeter", "greet", "Ann", None)
    expect(greeting, "Hello Ann")
    for key in KEYS:
        expect(demo.call("Counter", "add", 100, key, "first"), 100)
    demo.answer(f'"{greeting}", and 100 each for {", ".join(KEYS)}')


def begin_to_wait(demo: Demo) -> str:
    """A handler that waits for an answer from outside; gives the id that the answer goes to."""
    demo.step("gRPC Article/ann/publish: a handler that waits for an approval")
    request = wire.SendRequest(
        invocation=wire.InvocationRequest(
            target=wire.Target(service="Article", handler="publish", key="ann"),
            idempotency_key="publish",
        )
    )
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    sent = False
    awakeable = None
    while not awakeable:
        if time.monotonic() > deadline:
            raise DemoFailedError("the handler asks for no approval")
        try:
            if not sent:
                demo.stubs[0].Send(request, timeout=TRY_SECONDS_MAX)
                sent = True
        except grpc.RpcError as error:
            if error.code() not in PASSING:
                raise DemoFailedError(f"Article/publish: {error}") from None
        else:
            awakeable = demo.call("Article", "awaited", None, "ann")
        time.sleep(0.05)
    demo.answer(f"it waits for an answer to {awakeable}")
    return str(awakeable)


def kill_under_load(demo: Demo) -> str:
    """Clients add at all nodes, and in the midst of it a leader is killed; gives its name."""
    picture = demo.cluster.picture()
    victim = leader_of(picture, KEYS[0])
    pid = demo.cluster.nodes[victim].pid
    count = ADDS_OF_A_KEY * len(KEYS)
    demo.step(
        f"{count} adds of 1 from {CLIENTS} gRPC clients, and in the midst of it: kill -9 {pid}, "
        f"{victim}, leader of {KEYS[0]}"
    )
    answered = threading.Semaphore(0)
    waits: list[float] = []

    def send(number: int) -> None:
        key = KEYS[number % len(KEYS)]
        began = time.monotonic()
        demo.call("Counter", "add", 1, key, f"burst-{number}")
        waits.append(time.monotonic() - began)
        answered.release()

    with ThreadPoolExecutor(CLIENTS) as clients:
        sent = [clients.submit(send, number) for number in range(count)]
        try:
            for _ in range(count // 4):
                if not answered.acquire(timeout=ANSWER_SECONDS_MAX):
                    raise DemoFailedError("no answer to any of the adds")
            demo.cluster.kill(victim)
            before = sum(future.done() for future in sent)
            for future in sent:
                future.result()
        except BaseException:
            clients.shutdown(wait=False, cancel_futures=True)
            raise
    demo.answer(
        f"{before} were answered before, the other {count - before} after; the longest wait was "
        f"{max(waits) * 1000:.0f} ms"
    )
    return victim


def check_counts(demo: Demo) -> None:
    """Every add has counted once."""
    demo.step("gRPC Counter/…/get: is anything lost, or counted twice?")
    values = {key: demo.call("Counter", "get", None, key) for key in KEYS}
    expect(values, dict.fromkeys(KEYS, 100 + ADDS_OF_A_KEY))
    shown = ", ".join(f"{key} {value}" for key, value in values.items())
    demo.answer(f"{shown}: 100 + {ADDS_OF_A_KEY} each, every add counted once")
    expect(demo.call("Counter", "add", 100, KEYS[0], "first"), 100)
    demo.answer("an add from before under its own key again: 100, its stored answer")


def inspect_without(demo: Demo, victim: str) -> None:
    """Who leads now."""
    picture = demo.wait_for(
        "other leaders", lambda picture: all(row.leads_now for row in picture.partitions)
    )
    demo.step("who leads what now?")
    demo.answer(leads_text(picture))
    expect([row.partition for row in picture.partitions if row.leader == victim], [])


def answer_the_wait(demo: Demo, awakeable: str) -> None:
    """What waited when its leader was killed goes on where it was."""
    node = next(name for name, process in demo.cluster.nodes.items() if process.runs)
    address = demo.addresses[node]["ingress_grpc"]
    demo.command("awakeables", "resolve", awakeable, "true", "--ingress", address)
    demo.step("gRPC Article/ann/publish   under the same idempotency key as before")
    expect(demo.call("Article", "publish", None, "ann", "publish"), "published")
    demo.answer('"published"   the handler went on where it waited, on another node')


def bring_back(demo: Demo, victim: str) -> None:
    """The killed node comes back and catches up."""
    demo.step(f"start {victim} again, with what is on its disk")
    began = time.monotonic()
    demo.cluster.bring_back(victim)
    demo.wait_until_whole()
    demo.answer(f"back after {time.monotonic() - began:.1f} s, and no replica is behind")
    admin = f"http://{demo.addresses[victim]['admin']}"
    demo.answer(demo.command("partitions", "list", "--admin", admin))
    picture = demo.cluster.picture()
    number = partition_of(keyed_partition_key(KEYS[0]), len(picture.partitions))
    admin = f"http://{demo.addresses[leader_of(picture, KEYS[0])]['admin']}"
    demo.answer(demo.command("partitions", "inspect", str(number), "--admin", admin))


def tell(demo: Demo) -> None:
    """The story."""
    start(demo)
    call_any_node(demo)
    awakeable = begin_to_wait(demo)
    demo.wait_until_whole()
    victim = kill_under_load(demo)
    check_counts(demo)
    inspect_without(demo, victim)
    answer_the_wait(demo, awakeable)
    bring_back(demo, victim)
    demo.step("stop workers and nodes")
    late = demo.cluster.stop()
    expect(late, [])
    demo.answer("all ended in good order")


def show_logs(directory: Path) -> None:
    """The ends of all logs, for who has to find out why."""
    for log in sorted(directory.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        print(f"\n--- the end of {log.name}", file=sys.stderr)
        print("\n".join(lines), file=sys.stderr)


def leave(number: int, frame: object) -> NoReturn:
    """Turn a signal into an exception, so that everything is cleaned up on the way out."""
    raise KeyboardInterrupt


def main() -> int:
    """Tell the story; 0 when every answer was as expected."""
    if not PERDURE.exists():
        print(f"error: {PERDURE} is not there; run make setup", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, leave)
    # What is set for the user's own node must not change these.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PERDURE__")
    }
    began = time.monotonic()
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perdure-demo-")))
        try:
            directory = ClusterDirectory(place / "cluster", count=NODES)
            stack.callback(directory.release)
            apps = [EXAMPLES / f"{name}.py" for name in APPS]
            cluster = LocalCluster(directory, apps=apps, environment=environment)
            stack.enter_context(cluster)
            demo = Demo(cluster, environment)
            stack.callback(demo.close)
            tell(demo)
        except (DemoFailedError, PerdureError, subprocess.TimeoutExpired, TimeoutError) as error:
            print(f"\nFAILED: {error}", file=sys.stderr)
            show_logs(place / "cluster")
            return 1
        except (KeyboardInterrupt, BrokenPipeError):
            print("\nstopped", file=sys.stderr)
            return 1
    print(f"\nEvery answer was as expected, in {time.monotonic() - began:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
