"""Options: the layers, what is refused and in which words, and the generated reference."""

import os
from pathlib import Path

import pytest

from perdure.core.errors import OptionsError
from perdure.core.options import Assignment, options_reference, parse_assignment
from perdure.core.quantities import ByteSize, Duration
from perdure.node.options import NodeOptions, load_node_options

DOCS = Path(__file__).resolve().parents[2] / "docs" / "options.md"


def write(folder: Path, text: str) -> Path:
    """A TOML file."""
    file = folder / "node.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults_are_those_of_the_code() -> None:
    options = load_node_options()

    assert options == NodeOptions()
    assert options.listen.ingress_http == "127.0.0.1:8080"
    assert options.partitions.count == 8
    assert options.limits.body_bytes_max == ByteSize(32 << 20)
    assert options.retry.initial_interval == Duration(500_000_000)


def test_later_layers_win(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        [node]
        name = "file"
        cluster = "file"
        base_dir = "file"
        [retry]
        factor = 3
        max_interval = "2m"
        [listen]
        insecure = true
        """,
    )
    options = load_node_options(
        file=file,
        environment={
            "PERDURE__NODE__CLUSTER": "environment",
            "PERDURE__NODE__BASE_DIR": "environment",
            "PERDURE__LIMITS__BODY_BYTES_MAX": "1MiB",
            "PERDURE__PARTITIONS__COUNT": "4",
            "PERDURE_OTHER": "not ours",
        },
        assignments=[Assignment("node.base_dir", "set"), parse_assignment("retry.jitter=0")],
    )

    assert (options.node.name, options.node.cluster, options.node.base_dir) == (
        "file",
        "environment",
        "set",
    )
    assert (options.retry.factor, options.retry.jitter) == (3.0, 0.0)
    assert options.retry.max_interval == Duration(120 * 10**9)
    assert options.limits.body_bytes_max == ByteSize(1 << 20)
    assert options.partitions.count == 4
    assert options.listen.insecure


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("node.nam=a", ["unknown option node.nam", "--set", "did you mean node.name?"]),
        ("nothing.at_all=a", ["unknown option nothing.at_all", "the sections are node, listen"]),
        ("partitions.count=x", ['partitions.count = "x"', "a whole number from 1 to 1024"]),
        ("partitions.count=0", ["from 1 to 1024"]),
        ("partitions.count=1025", ["from 1 to 1024"]),
        ("retry.factor=nan", ["a number from 1.0 to 100.0"]),
        ("retry.jitter=1.01", ["from 0.0 to 1.0"]),
        ("listen.insecure=perhaps", ["true or false"]),
        ("log.sync_inline=often", ['one of "auto", "always", "never"']),
        ("limits.body_bytes_max=33MiB", ["at most 32MiB"]),
        ("limits.body_bytes_max=5", ['a byte size such as "32MiB"']),
        ("limits.stop_grace=soon", ['a duration such as "10s"']),
        ("retry.initial_interval=0s", ["at least 1ms"]),
        ("retry.initial_interval=61s", ["longer than retry.max_interval = 60s (default)"]),
        ("node.name=", ["a text that is not empty"]),
        ("listen.admin=9070", ["an address is host:port"]),
        ("listen.admin=127.0.0.1:70000", ["not between 0 and 65535"]),
        ("listen.admin=::1:9070", ["an address is host:port"]),
        ("listen.admin=0.0.0.0:9070", ["other machines", "127.0.0.1", "--insecure"]),
        ("listen.node=example.com:1", ["other machines"]),
        ("listen.admin=127.0.0.1:8080", ["the address of listen.ingress_http as well"]),
    ],
)
def test_what_does_not_fit_is_refused_with_key_origin_and_way_out(
    assignment: str, words: list[str]
) -> None:
    with pytest.raises(OptionsError) as refused:
        load_node_options(assignments=[parse_assignment(assignment)])

    for word in [assignment.partition("=")[0], "--set", *words]:
        assert word in refused.value.message
    assert refused.value.code == "PD0301"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[node]\nname = 5", ["node.name = 5", "a text"]),
        ("[partitions]\ncount = '8'", ['partitions.count = "8"', "a whole number"]),
        ("[partitions]\ncount = true", ["partitions.count = true"]),
        ("[retry]\ninitial_interval = 5", ["retry.initial_interval = 5", "a duration"]),
        ("[nodes]\nname = 'a'", ["unknown option nodes.name"]),
        ("name = 'a'", ["stands outside a section"]),
        ("[node", ["is not valid TOML"]),
    ],
)
def test_file_is_named_where_it_is_wrong(tmp_path: Path, text: str, words: list[str]) -> None:
    file = write(tmp_path, text)
    with pytest.raises(OptionsError) as refused:
        load_node_options(file=file)

    for word in [f"file {file}", *words]:
        assert word in refused.value.message


def test_environment_variable_is_named_where_it_is_wrong() -> None:
    for name, value in (("PERDURE__PARTITIONS__COUNT", "many"), ("PERDURE__NODE__COLOUR", "red")):
        with pytest.raises(OptionsError, match=name):
            load_node_options(environment={name: value})


def test_file_that_is_not_there_is_an_options_error(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="does not exist"):
        load_node_options(file=tmp_path / "none.toml")
    with pytest.raises(OptionsError, match="cannot be read"):
        load_node_options(file=tmp_path)


@pytest.mark.parametrize("text", ["node.name", "name=a", "a.b.c=1", ""])
def test_assignment_has_one_form(text: str) -> None:
    with pytest.raises(OptionsError, match=r"section\.key=value"):
        parse_assignment(text)


@pytest.mark.parametrize("address", ["localhost:1", "127.0.0.2:1", "[::1]:1", "127.0.0.1:0"])
def test_loopback_addresses_are_taken(address: str) -> None:
    assert load_node_options(assignments=[Assignment("listen.admin", address)])


def test_other_addresses_are_taken_when_said_out_loud() -> None:
    options = load_node_options(
        assignments=[
            Assignment("listen.insecure", "true"),
            Assignment("listen.admin", "0.0.0.0:9070"),
        ]
    )

    assert options.listen.admin == "0.0.0.0:9070"


def test_options_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        load_node_options().node.name = "other"  # type: ignore[misc]


def test_every_option_has_a_meaning_and_reads_its_own_default() -> None:
    reference = options_reference(NodeOptions)
    rows = [line.split(" | ") for line in reference.splitlines() if line.startswith("| `")]

    assert len(rows) >= 20
    for key, default, allowed, meaning in rows:
        name = key.strip("|` ")
        value = default.strip('`"')
        assert meaning.strip(" |"), name
        assert allowed, name
        assert load_node_options(assignments=[Assignment(name, value)]) == NodeOptions(), name


@pytest.mark.skipif(
    os.environ.get("PERDURE_TEST_WHEEL") == "1", reason="the documentation is not in the wheel"
)
def test_reference_in_the_documentation_is_the_generated_one() -> None:
    assert DOCS.read_text(encoding="utf-8") == options_reference(NodeOptions)
