"""Options: read once from file, environment and command line into frozen values.

A *root* is a frozen msgspec Struct whose fields are *sections*, themselves frozen Structs of plain
values. The layers, later ones winning: the defaults in the code, a TOML file, the environment
(``PERDURE__SECTION__KEY=value``), assignments from the command line. The text of an option's
documentation stands on the option itself, in its `msgspec.Meta`, and `options_reference` prints it.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args, get_origin

import msgspec

from .errors import OptionsError
from .quantities import (
    BYTE_SIZE_FORM,
    DURATION_FORM,
    ByteSize,
    Duration,
    parse_byte_size,
    parse_duration,
)

ENVIRONMENT_PREFIX: Final = "PERDURE__"

Root = TypeVar("Root", bound=msgspec.Struct)


class Assignment(NamedTuple):
    """One value from the command line: ``Assignment("node.name", "a", "--set")``."""

    key: str
    value: str
    origin: str = "--set"


class Loaded(NamedTuple):
    """A layer's value on its way in; `text` layers are coerced, a file's types must be right."""

    value: object
    origin: str
    text: bool


class Origins:
    """Where each option's value came from, for errors found after loading."""

    def __init__(self, origins: Mapping[str, str]) -> None:
        """Take the origin per ``section.key``; what is absent has its default."""
        self._origins = dict(origins)

    def of(self, key: str) -> str:
        """The origin of ``section.key``."""
        return self._origins.get(key, "default")


def parse_assignment(text: str, origin: str = "--set") -> Assignment:
    """Split ``section.key=value``. Raises OptionsError."""
    key, equals, value = text.partition("=")
    if not equals or key.count(".") != 1:
        raise OptionsError(f"{origin} {text!r} is not of the form section.key=value")
    return Assignment(key.strip(), value, origin)


def load_options(
    root: type[Root],
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    assignments: Sequence[Assignment] = (),
) -> tuple[Root, Origins]:
    """Merge the layers into one frozen value. Raises OptionsError naming key and origin."""
    values: dict[str, Loaded] = {}
    layers = (
        _file_values(file),
        _environment_values(environment or {}),
        ((item.key, Loaded(item.value, item.origin, text=True)) for item in assignments),
    )
    for layer in layers:
        for key, loaded in layer:
            _known(root, key, loaded.origin)
            values[key] = loaded
    sections: dict[str, msgspec.Struct] = {}
    for section_name, section in sections_of(root).items():
        taken = {
            field.name: _convert(key, field, values[key])
            for field in msgspec.structs.fields(section)
            if (key := f"{section_name}.{field.name}") in values
        }
        sections[section_name] = section(**taken)
    return root(**sections), Origins({key: loaded.origin for key, loaded in values.items()})


def sections_of(root: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct]]:
    """The section types of a root, by name, in order of declaration."""
    return {field.name: field.type for field in msgspec.structs.fields(root)}


def options_reference(root: type[msgspec.Struct]) -> str:
    """The reference of every option as Markdown: ``docs/options.md`` holds exactly this text."""
    lines = [
        "# Options",
        "",
        "Generated from the code by `options_reference`; a test compares the two.",
        "",
        "Every option is read once, at start. Later layers win: the default, the TOML file given",
        "with `--config`, the environment (`PERDURE__SECTION__KEY=value`), then the command line",
        "(`--set section.key=value`). A key that does not exist, or a value that does not fit,",
        "stops the start with error PD0301.",
        "",
    ]
    for section_name, section in sections_of(root).items():
        lines += [f"## {section_name}", "", (section.__doc__ or "").strip().split("\n")[0], ""]
        lines += ["| option | default | allowed | meaning |", "|---|---|---|---|"]
        for field in msgspec.structs.fields(section):
            lines.append(
                f"| `{section_name}.{field.name}` | `{_printed(field.default)}` "
                f"| {_allowed(field.type).replace('|', '/')} | {_description(field.type)} |"
            )
        lines.append("")
    return "\n".join(lines)


def _file_values(file: Path | None) -> Iterator[tuple[str, Loaded]]:
    if file is None:
        return
    origin = f"file {file}"
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise OptionsError(f"{origin} does not exist; give --config the path of a TOML file") from (
            None
        )
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"{origin} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise OptionsError(f"{origin} is not valid TOML: {error}") from None
    for section_name, section in document.items():
        if not isinstance(section, dict):
            raise OptionsError(
                f"{origin}: {section_name!r} stands outside a section; write it under a header "
                "such as [node]"
            )
        for key, value in section.items():
            yield f"{section_name}.{key}", Loaded(value, origin, text=False)


def _environment_values(environment: Mapping[str, str]) -> Iterator[tuple[str, Loaded]]:
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX):
            key = name[len(ENVIRONMENT_PREFIX) :].lower().replace("__", ".")
            yield key, Loaded(environment[name], f"environment {name}", text=True)


def _known(root: type[msgspec.Struct], key: str, origin: str) -> None:
    """Refuse a key that no section has, with the nearest one that exists."""
    known = [
        f"{section_name}.{field.name}"
        for section_name, section in sections_of(root).items()
        for field in msgspec.structs.fields(section)
    ]
    if key in known:
        return
    near = difflib.get_close_matches(key, known, n=1)
    hint = (
        f"did you mean {near[0]}?" if near else f"the sections are {', '.join(sections_of(root))}"
    )
    raise OptionsError(f"unknown option {key} ({origin}); {hint}")


def _convert(key: str, field: msgspec.structs.FieldInfo, loaded: Loaded) -> object:
    try:
        value: object = msgspec.convert(
            loaded.value, field.type, strict=not loaded.text, dec_hook=_decode_quantity
        )
    except msgspec.ValidationError:
        value = None
    if value is None or not _within(field.type, value):
        raise OptionsError(
            f"{key} = {_shown(loaded.value)} ({loaded.origin}) is not allowed; it takes "
            f"{_allowed(field.type)}"
        )
    return value


def _decode_quantity(wanted: type[object], value: object) -> object:
    if wanted is Duration and isinstance(value, str):
        return parse_duration(value)
    if wanted is ByteSize and isinstance(value, str):
        return parse_byte_size(value)
    raise ValueError(f"{value!r} is not a {wanted.__name__}")


def _within(annotation: object, value: object) -> bool:
    """Check the bounds that msgspec cannot: those of durations and byte sizes."""
    if not isinstance(value, Duration | ByteSize):
        return True
    low, high = _quantity_bounds(annotation)
    return low <= value and (high is None or value <= high)


def _quantity_bounds(annotation: object) -> tuple[int, int | None]:
    extra = _meta(annotation).extra or {}
    return extra.get("min", 0), extra.get("max")


def _meta(annotation: object) -> msgspec.Meta:
    for part in getattr(annotation, "__metadata__", ()):
        if isinstance(part, msgspec.Meta):
            return part
    return msgspec.Meta()


def _bare(annotation: Any) -> Any:
    return getattr(annotation, "__origin__", annotation) if _has_meta(annotation) else annotation


def _has_meta(annotation: object) -> bool:
    return hasattr(annotation, "__metadata__")


def _description(annotation: object) -> str:
    return _meta(annotation).description or ""


def _allowed(annotation: object) -> str:
    """What an option takes, in words."""
    meta = _meta(annotation)
    bare = _bare(annotation)
    if get_origin(bare) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(bare))
    if bare is bool:
        return "true or false"
    if bare in (Duration, ByteSize):
        low, high = _quantity_bounds(annotation)
        form = DURATION_FORM if bare is Duration else BYTE_SIZE_FORM
        return f"{form}, at least {bare(low)}" + (
            "" if high is None else f" and at most {bare(high)}"
        )
    if bare in (int, float):
        form = "a whole number" if bare is int else "a number"
        low_text = "" if meta.ge is None else f" from {meta.ge}"
        high_text = "" if meta.le is None else f" to {meta.le}"
        return form + low_text + high_text
    return "a text" if meta.min_length is None else "a text that is not empty"


def _printed(default: object) -> str:
    """A default the way a TOML file would spell it."""
    if isinstance(default, bool):
        return "true" if default else "false"
    if isinstance(default, Duration | ByteSize | str):
        return f'"{default}"'
    return str(default)


def _shown(value: object) -> str:
    text = _printed(value)
    return text if len(text) <= 80 else text[:77] + "..."
