"""The few HTTP calls that the harness makes itself: waiting for answers and checking them."""

import http.client
import json
import re
import time
from collections.abc import Callable

from .errors import BenchError

POLL_SECONDS = 0.02
"""Between two tries: short beside what is measured (start to first answer, about a second), and
long enough that trying does not take the processor from what is starting."""


def post(port: int, path: str, body: object, *, seconds: float) -> tuple[int, object]:
    """One call on a connection of its own: status and decoded answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request(
            "POST", path, body=json.dumps(body), headers={"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
        try:
            return response.status, json.loads(text)
        except json.JSONDecodeError:
            return response.status, text
    finally:
        connection.close()


def get(port: int, path: str, *, seconds: float) -> str:
    """What is shown there. Raises OSError and HTTPException, also for another status than 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status != 200:
        raise http.client.HTTPException(f"GET {path} on port {port}: status {response.status}")
    return text


def invocations_by_status(admin_port: int, *, seconds: float) -> dict[str, int]:
    """How many invocations a node holds, from its metrics."""
    text = get(admin_port, "/metrics", seconds=seconds)
    found = re.findall(r'^perdure_invocations\{status="([^"]+)"\} (\S+)$', text, re.MULTILINE)
    return {status: int(float(count)) for status, count in found}


def post_until_ok(
    port: int,
    path: str,
    body: object,
    *,
    seconds: float,
    alive: Callable[[], None],
) -> object:
    """Try until the answer is a success; `alive` raises when there is no hope left."""
    deadline = time.monotonic() + seconds
    last = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        alive()
        try:
            # Short, because a call that meets a server half started may never be answered.
            status, answer = post(port, path, body, seconds=min(left, 2.0))
        except (OSError, http.client.HTTPException) as error:
            last = f"{type(error).__name__}: {error}"
        else:
            if 200 <= status < 300:
                return answer
            last = f"status {status}: {answer}"
        time.sleep(POLL_SECONDS)
    raise BenchError(
        f"no success from POST {path} on port {port} within {seconds:.0f} s; last: {last}",
        where=f"POST {path}",
    )
