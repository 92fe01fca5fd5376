"""App files: what is found in them, what is wrong with them, and when they are the same code."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.sdk import errors
from perdure.sdk.loading import load_app

GREETER = """
from perdure.sdk import Context, Service
greeter = Service("Greeter")

@greeter.handler()
async def greet(ctx: Context, name: str) -> str:
    return "Hello " + name
"""


@pytest.fixture(autouse=True)
def _imports_are_undone() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def written(folder: Path, source: str, name: str = "app.py") -> Path:
    """An app file."""
    file = folder / name
    file.write_text(source)
    return file


def test_services_are_found_among_the_globals(tmp_path: Path) -> None:
    """A service is enough."""
    loaded = load_app(written(tmp_path, GREETER))

    assert list(loaded.app.services) == ["Greeter"]
    assert loaded.deployment == f"dp-{loaded.code_hash[:16]}"
    assert len(loaded.code_hash) == 64


def test_app_object_decides_which_services_are_offered(tmp_path: Path) -> None:
    """Others may be lying about."""
    source = (
        GREETER + "other = Service('Other')\nfrom perdure.sdk import app\nit = app([greeter])\n"
    )

    assert list(load_app(written(tmp_path, source)).app.services) == ["Greeter"]


def test_modules_beside_the_app_are_found_and_hashed(tmp_path: Path) -> None:
    """A change in one of them is another deployment; a new unrelated file is not."""
    written(tmp_path, "GREETING = 'Hello'\n", "greetings_beside.py")
    file = written(tmp_path, "import greetings_beside\n" + GREETER)
    first = load_app(file)
    written(tmp_path, "nothing = 1\n", "unrelated.py")
    del sys.modules["greetings_beside"]
    second = load_app(file)
    written(tmp_path, "GREETING = 'Ahoi!'\n", "greetings_beside.py")
    del sys.modules["greetings_beside"]
    third = load_app(file)

    assert [path.name for path in first.files] == ["app.py", "greetings_beside.py"]
    assert first.code_hash == second.code_hash
    assert first.code_hash != third.code_hash


def test_hash_does_not_depend_on_the_place(tmp_path: Path) -> None:
    """The same files in another directory are the same code."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    hashes = {load_app(written(tmp_path / name, GREETER)).code_hash for name in ("one", "two")}

    assert len(hashes) == 1


def test_missing_file_is_named(tmp_path: Path) -> None:
    """And a directory or another kind of file is none."""
    with pytest.raises(errors.AppNotFoundError, match=r"nowhere\.py"):
        load_app(tmp_path / "nowhere.py")
    with pytest.raises(errors.AppNotFoundError):
        load_app(tmp_path)
    with pytest.raises(errors.AppNotFoundError, match=r"must end in \.py"):
        load_app(written(tmp_path, "", "app.txt"))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def inner():\n    return 1 / 0\ninner()\n", ["ZeroDivisionError", "line 2, in inner"]),
        ("import nowhere_at_all\n", ["ModuleNotFoundError", "nowhere_at_all"]),
        ("def broken(:\n", ["SyntaxError"]),
        ("raise SystemExit(2)\n", ["SystemExit"]),
    ],
)
def test_failing_import_shows_the_users_frames(
    tmp_path: Path, source: str, words: list[str]
) -> None:
    """And none of the machinery's."""
    with pytest.raises(errors.AppImportError) as caught:
        load_app(written(tmp_path, source))

    text = str(caught.value)
    assert all(word in text for word in [*words, "app.py"])
    assert "loading.py" not in text
    assert "importlib" not in text


def test_file_without_services_says_what_to_write(tmp_path: Path) -> None:
    """An empty file."""
    with pytest.raises(errors.NoServicesError, match="Service"):
        load_app(written(tmp_path, "x = 1\n"))


def test_two_services_of_one_name_are_refused(tmp_path: Path) -> None:
    """Callers could not tell them apart."""
    with pytest.raises(errors.DuplicateServiceError, match="'Greeter'"):
        load_app(written(tmp_path, GREETER + "again = Service('Greeter')\n"))


def test_bad_handler_is_reported_as_such(tmp_path: Path) -> None:
    """Not as a failing import, and with its own line."""
    source = GREETER.replace("name: str", "*names: str")
    with pytest.raises(errors.HandlerSignatureError, match=r"app\.py:5: handler Greeter/greet"):
        load_app(written(tmp_path, source))


def test_app_may_be_named_like_a_known_module(tmp_path: Path) -> None:
    """The module that is there stays."""
    before = sys.modules["json"]
    loaded = load_app(written(tmp_path, GREETER, "json.py"))

    assert list(loaded.app.services) == ["Greeter"]
    assert sys.modules["json"] is before


@pytest.mark.parametrize(("name", "service"), [("greeter", "Greeter"), ("counter", "Counter")])
def test_examples_load(name: str, service: str) -> None:
    """The apps that the documentation shows."""
    root = Path(__file__).resolve().parents[2]

    assert list(load_app(root / "examples" / f"{name}.py").app.services) == [service]
