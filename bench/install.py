"""Finds or installs what a run needs: wrk, the peer's server (npm), the peer's SDK (PyPI)."""

import os
import shutil
import sys
import venv
from pathlib import Path

from .errors import BenchError, MissingTool
from .paths import PEER_NPM, PEER_VENV, PERDURE_BIN, ROOT
from .processes import run_tool

INSTALL_SECONDS = 300.0

SERVER_PACKAGE = "@restatedev/restate-server"
APP_PACKAGES = ("restate-sdk[serde]", "hypercorn", "uvloop")

SERVER_VERSION = os.environ.get("BENCH_PEER_SERVER", "latest")
"""Which version a fresh scratch folder gets. What is installed already stays, so that runs of one
working copy compare; the results name it."""


def require_wrk() -> None:
    """The load generator comes from the system's packages."""
    if shutil.which("wrk") is None:
        raise MissingTool(
            "wrk is not on the PATH. On Debian and Ubuntu: sudo apt install wrk",
            where="wrk",
        )


def require_proc() -> None:
    """Processor time per thread is read from /proc."""
    if not Path("/proc/self/task").is_dir():
        raise MissingTool("the benchmark reads /proc and so runs on Linux only.", where="/proc")


def require_perdure() -> Path:
    """The console script in the repository's own environment."""
    program = PERDURE_BIN / "perdure"
    if not program.exists():
        raise MissingTool(".venv has no perdure. Make it first: make setup", where="perdure")
    return program


def require_py_spy() -> Path:
    """The sampling profiler: it looks at a process from outside and needs no change in it."""
    program = PERDURE_BIN / "py-spy"
    if program.exists():
        return program
    elsewhere = shutil.which("py-spy")
    if elsewhere is None:
        raise MissingTool(
            "py-spy is not there. Install it: .venv/bin/pip install py-spy", where="py-spy"
        )
    return Path(elsewhere)


def peer_server() -> Path:
    """The peer's server binary, installed on first use.

    The binary of the platform's package is run itself: the script that npm links to it would add
    a Node.js process to the measured group.
    """
    found = _server_binary()
    if found is not None:
        return found
    if shutil.which("npm") is None:
        raise MissingTool(
            "npm is needed once to install the peer. On Debian and Ubuntu: sudo apt install npm; "
            "or measure without the peer: bench/run.sh --only perdure",
            where="npm",
        )
    print(f"setup   installing {SERVER_PACKAGE} into bench/scratch", file=sys.stderr)
    PEER_NPM.mkdir(parents=True, exist_ok=True)
    # The scripts of the package only report the installation to its makers.
    options = ("--no-audit", "--no-fund", "--ignore-scripts")
    run_tool(
        ("npm", "install", *options, "--prefix", PEER_NPM, f"{SERVER_PACKAGE}@{SERVER_VERSION}"),
        cwd=PEER_NPM,
        seconds=INSTALL_SECONDS,
        what=f"npm install {SERVER_PACKAGE}",
    )
    found = _server_binary()
    if found is None:
        raise BenchError(f"{SERVER_PACKAGE} is installed but brought no binary for this platform")
    return found


def _server_binary() -> Path | None:
    scope, name = SERVER_PACKAGE.split("/")
    folder = PEER_NPM / "node_modules" / scope
    found = sorted(folder.glob(f"{name}-*/bin/{name}"))
    return found[0] if found else None


def peer_python() -> Path:
    """The Python of the peer's application, with its packages, installed on first use."""
    python = PEER_VENV / "bin" / "python"
    # Written last, so that an interrupted installation is begun again.
    stamp = PEER_VENV / ".installed"
    if stamp.exists():
        return python
    print(f"setup   installing {', '.join(APP_PACKAGES)} into bench/scratch", file=sys.stderr)
    venv.create(PEER_VENV, clear=True, with_pip=True)
    run_tool(
        (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *APP_PACKAGES),
        cwd=ROOT,
        seconds=INSTALL_SECONDS,
        what="pip install " + " ".join(APP_PACKAGES),
    )
    stamp.touch()
    return python
