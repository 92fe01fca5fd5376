"""Importing the SDK loads none of the optional packages."""

import subprocess
import sys

EXTRAS = (
    "uvloop",
    "xxhash",
    "granian",
    "typer",
    "structlog",
    "rocksdict",
    "grpc",
    "pydantic",
    "httpx",
)


def test_importing_the_sdk_loads_no_extras() -> None:
    """A worker needs msgspec and protobuf, and a transport when it runs."""
    program = (
        "import sys, perdure.sdk, perdure.sdk.run_worker\n"
        f"print(*[name for name in {EXTRAS!r} if name in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert loaded.stdout.split() == []


def test_public_names_are_sorted_and_there() -> None:
    """The face of the SDK."""
    import perdure.sdk as sdk

    assert sdk.__all__ == sorted(sdk.__all__)
    assert all(hasattr(sdk, name) for name in sdk.__all__)
