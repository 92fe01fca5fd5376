"""Where the harness finds and puts things; nothing of this enters a results file."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "bench" / "apps"
RESULTS = ROOT / "bench" / "results"

SCRATCH = ROOT / "bench" / "scratch"
LOGS = SCRATCH / "logs"
DATA = SCRATCH / "data"
PROFILES = SCRATCH / "profile"
PEER_NPM = SCRATCH / "peer-npm"
PEER_VENV = SCRATCH / "peer-venv"

PERDURE_BIN = ROOT / ".venv" / "bin"
