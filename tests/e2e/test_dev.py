"""``perdure dev`` on real processes: saves, errors, a killed worker, code that changes midway."""

import json
import os
import re
import signal
import urllib.request
from pathlib import Path

from .processes import Process, wait_until

APP = """
from perdure.sdk import Context, Service

greeter = Service("Greeter")


def tell(awakeable: str) -> None:
    print(f"answer to {awakeable}", flush=True)


@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"GREETING {name}"


@greeter.handler()
async def wait(ctx: Context) -> str:
    awakeable, answer = ctx.awakeable(type_hint=str)
    await ctx.run_typed("tell", tell, awakeable=awakeable)
    return f"GREETING {await answer}"
"""


def save(app: Path, text: str) -> None:
    """Write a file at once: who watches it sees no empty one."""
    written = app.with_suffix(".new")
    written.write_text(text)
    written.replace(app)


def post(url: str, body: object = None) -> object:
    """POST JSON and give the JSON that comes back; None for an empty answer."""
    data = b"" if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"content-type": "application/json"}
    request = urllib.request.Request(url, data, headers, method="POST")
    with urllib.request.urlopen(request, timeout=120) as response:
        text = response.read()
    return json.loads(text) if text else None


def test_saves_errors_and_a_killed_worker(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP.replace("GREETING", "Hello"))
    free = "127.0.0.1:0"
    dev = Process(
        "dev",
        ["dev", str(app), "--ingress-http", free, "--ingress-grpc", free, "--admin", free,
         "--node", free],
        tmp_path,
    )  # fmt: skip

    def printed() -> str:
        return dev.stdout_path.read_text()

    def served(times: int) -> None:
        wait_until(f"the worker to serve {times} times", lambda: served_times() >= times)

    def served_times() -> int:
        return printed().count("is served as")

    try:
        served(1)
        calls = re.compile(r"curl --json '\"text\"' (\S+/Greeter/greet)\n")
        wait_until("how to call it", lambda: calls.search(printed()) is not None)
        (line,) = calls.findall(printed())
        url = f"http://{line}"
        base = url.removesuffix("/Greeter/greet")
        assert "perdure call Greeter/greet '\"text\"'" in printed()
        assert post(url, "Ann") == "Hello Ann"
        sent = post(f"{base}/Greeter/wait/send")
        assert isinstance(sent, dict)
        wait_until("the awakeable", lambda: "answer to sign_1" in printed())

        save(app, "import nowhere\n")
        wait_until("the error", lambda: "waiting for the next save" in printed())
        assert "No module named 'nowhere'" in dev.stderr
        save(app, APP.replace("GREETING", "Good day"))
        served(2)
        assert post(url, "Ann") == "Good day Ann"
        wait_until("the handover", lambda: "older code that go on with this one: 1" in printed())
        (awakeable,) = set(re.findall(r"answer to (\S+)", printed()))
        post(f"{base}/restate/awakeables/{awakeable}/resolve", "Bob")
        attach = f"{base}/restate/invocation/{sent['invocationId']}/attach"
        with urllib.request.urlopen(attach, timeout=120) as response:
            assert json.loads(response.read()) == "Good day Bob"

        (worker,) = children(dev.pid)
        os.kill(worker, signal.SIGKILL)
        wait_until("the new worker", lambda: "killed by SIGKILL" in printed())
        served(3)
        assert post(url, "Eve") == "Good day Eve"

        (worker,) = children(dev.pid)
        os.kill(dev.pid, signal.SIGINT)
        assert dev.wait() == 0
        assert not Path(f"/proc/{worker}").exists()
        assert "Traceback" not in dev.stderr
    finally:
        for child in children(dev.pid):
            os.kill(child, signal.SIGKILL)
        dev.kill()


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]
