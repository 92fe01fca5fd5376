"""Finds the services in a user's app file, and tells one state of the code from another."""

import hashlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Final

import msgspec

from ..core.protocol.session import LOOP_SEMANTICS
from .errors import (
    AppImportError,
    AppNotFoundError,
    HandlerSignatureError,
    InvalidOptionError,
    NoServicesError,
    UnsupportedOptionError,
)
from .service import App, ServiceBase

DEPLOYMENT_PREFIX: Final = "dp-"
DEPLOYMENT_HASH_CHARS: Final = 16
_FRAMES_SHOWN: Final = 5
_OURS: Final = __name__.partition(".")[0]
_INSTALLED: Final = ("site-packages", "dist-packages")


class LoadedApp(msgspec.Struct, frozen=True):
    """An app file, imported.

    Attributes:
        code_hash: hex digest of its code; see `code_hash_of`.
        files: what went into it, sorted.
    """

    app: App
    path: Path
    code_hash: str
    files: tuple[Path, ...]

    @property
    def deployment(self) -> str:
        """The name of this state of the code, unless the user gives one."""
        return deployment_of(self.code_hash)


def check_app_file(path: str | Path) -> Path:
    """The whole path of an app file. Raises AppNotFoundError."""
    file = Path(path)
    if not file.is_file():
        raise AppNotFoundError(
            f"there is no app file {str(path)!r}; give the path of the Python file that defines "
            "your services"
        )
    if file.suffix != ".py":
        raise AppNotFoundError(f"{str(path)!r} is no Python file; its name must end in .py")
    return file.resolve()


def load_app(path: str | Path) -> LoadedApp:
    """Import an app file; its directory goes on ``sys.path``, as when it is run as a script.

    Raises AppNotFoundError, AppImportError, NoServicesError, DuplicateServiceError,
    HandlerSignatureError, InvalidOptionError or UnsupportedOptionError.
    """
    file = check_app_file(path)
    module = _import(file)
    services = _services_in(module)
    files = tuple(_local_files(file))
    return LoadedApp(services, file, code_hash_of(files, file.parent), files)


def code_hash_of(files: Iterable[Path], root: Path) -> str:
    """Hex SHA-256 over what decides how a journal is replayed.

    That is every file's path below `root` and content, Python's minor version, and the semantics
    of the durable loop.
    """
    digest = hashlib.sha256()
    version = f"python {sys.version_info.major}.{sys.version_info.minor} loop {LOOP_SEMANTICS}"
    for file in sorted(files):
        name = file.relative_to(root) if file.is_relative_to(root) else Path(file.name)
        source = file.read_bytes()
        digest.update(f"{name.as_posix()} {len(source)}\n".encode())
        digest.update(source)
    digest.update(version.encode())
    return digest.hexdigest()


def deployment_of(code_hash: str) -> str:
    """The default name of a deployment."""
    return DEPLOYMENT_PREFIX + code_hash[:DEPLOYMENT_HASH_CHARS]


def handler_files(app: App) -> list[Path]:
    """The files that the handlers of an app come from, for apps that were not loaded by path."""
    files = {
        Path(handler.function.__code__.co_filename) for handler in app.handler_table().values()
    }
    return sorted(file for file in files if file.is_file())


def code_hash_of_app(app: App) -> str:
    """The `code_hash_of` the files that an app's handlers come from."""
    files = handler_files(app)
    return code_hash_of(files, files[0].parent if files else Path())


def _import(file: Path) -> ModuleType:
    directory = str(file.parent)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    name = file.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) != str(file):
        name = f"{_OURS}_app_{name}"
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except (HandlerSignatureError, InvalidOptionError, UnsupportedOptionError):
        sys.modules.pop(name, None)
        raise
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise AppImportError(f"importing {file} failed:\n{_last_frames(error)}") from error
    return module


def _last_frames(error: BaseException) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    lines = traceback.format_list(frames[-_FRAMES_SHOWN:])
    return "".join(lines + traceback.format_exception_only(error)).rstrip()


def _services_in(module: ModuleType) -> App:
    apps = [value for value in vars(module).values() if isinstance(value, App)]
    if apps:
        return App(service for app in apps for service in app.services.values())
    services: list[ServiceBase] = []
    for value in vars(module).values():
        if isinstance(value, ServiceBase) and value not in services:
            services.append(value)
    if not services:
        raise NoServicesError(
            f"{module.__file__} defines no service; write `greeter = Service('Greeter')` at the "
            "top level, or `app = app([...])`"
        )
    return App(services)


def _local_files(app_file: Path) -> list[Path]:
    # What the app imported from beside itself. Installed packages are not its code.
    root = app_file.parent
    libraries = {Path(path).resolve() for path in sysconfig.get_paths().values()}
    files = {app_file}
    for name, module in list(sys.modules.items()):
        location = getattr(module, "__file__", None)
        if not location or name.partition(".")[0] == _OURS:
            continue
        file = Path(location).resolve()
        if not file.is_relative_to(root) or any(file.is_relative_to(path) for path in libraries):
            continue
        if file.suffix == ".py" and not any(part in _INSTALLED for part in file.parts):
            files.add(file)
    return sorted(files)
