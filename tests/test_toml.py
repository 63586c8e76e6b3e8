"""toml: a file becomes options, and a mistake in it is found by its line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls import cli, toml
from _udp2tls.config import ConfigError

GOOD = """\
# a comment
listen = ["127.0.0.1:5353", "[::1]:5353"]
upstream = "tls://9.9.9.9#dns.quad9.net"

timeout = 2.5
log_queries = true
"""


def mistake(source: str) -> list[str]:
    """Return the lines of the error."""
    with pytest.raises(ConfigError) as caught:
        toml.parse(source, "file.toml")
    return str(caught.value).split("\n")


def test_dnscrypt_proxys_name_for_ephemeral_keys_means_the_same() -> None:
    for name in ("ephemeral_keys", "dnscrypt_ephemeral_keys"):
        assert toml.parse(f"{name} = true", "file.toml") == {"ephemeral_keys": [("true", "file.toml:1")]}
    assert "ephemeral_keys cannot be a str" in mistake('ephemeral_keys = "yes"')[0]


def test_values_come_as_text_with_their_line() -> None:
    assert toml.parse(GOOD, "file.toml") == {
        "listen": [("127.0.0.1:5353", "file.toml:2"), ("[::1]:5353", "file.toml:2")],
        "upstream": [("tls://9.9.9.9#dns.quad9.net", "file.toml:3")],
        "timeout": [("2.5", "file.toml:5")],
        "log_queries": [("true", "file.toml:6")],
    }


def test_entries_of_a_list_carry_their_own_line() -> None:
    table = toml.parse("listen = [\n  '127.0.0.1',\n  # one more\n  '::1',\n]", "f")
    assert table["listen"] == [("127.0.0.1", "f:2"), ("::1", "f:4")]


def test_a_key_is_not_taken_for_one_of_the_same_name_in_a_table() -> None:
    said = mistake('# timeout =\nca_file = """\ntimeout = 5"""\ntimeout = []')[0]
    assert said == "file.toml:4: timeout cannot be a list"
    assert toml.parse("[static.timeout]\nstamp = 'sdns://'\n", "f") == {}


def test_the_tables_of_lists_are_left_to_those_who_know_them() -> None:
    for name in toml.CATALOG:
        table = toml.parse(f"timeout = 3\n{name} = []", "f")
        assert table == {"timeout": [("3", "f:1")]}
        assert table.document is not None
        assert table.document.place(name).where == "f:2"
    assert toml.parse("timeout = 3", "f").document is None
    assert "server_names, sources, static" in mistake("serverr_names = []")[-1]


def test_names_of_other_programs_mean_the_same() -> None:
    table = toml.parse('listen_addresses = ["127.0.0.1"]\nupstreams = ["tls://a.b"]\npins = ["x"]', "f")
    assert {option: [text for text, _ in values] for option, values in table.items()} == {
        "listen": ["127.0.0.1"], "upstream": ["tls://a.b"], "pin": ["x"]
    }  # fmt: skip


def test_every_name_is_an_option() -> None:
    options = vars(cli.parser().parse_args([]))
    assert {option for option, _ in toml.KEYS.values()} <= set(options)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_files_as_any_editor_writes_them(tmp_path: Path, encoding: str, newline: str) -> None:
    path = tmp_path / "file.toml"
    path.write_bytes(GOOD.replace("\n", newline).encode(encoding))
    lines = {where for values in toml.read(str(path)).values() for _, where in values}
    assert lines == {f"{path}:{number}" for number in (2, 3, 5, 6)}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    with pytest.raises(ConfigError, match=r"file\.toml: No such file"):
        toml.read(str(path))
    path.write_bytes(b"listen = '\xff'")
    with pytest.raises(ConfigError, match=r"file\.toml: .*utf-8"):
        toml.read(str(path))


def test_an_empty_file_says_nothing() -> None:
    assert toml.parse("", "f") == toml.parse("# only a comment\n\n", "f") == {}


@pytest.mark.parametrize(
    ("line", "underline"),
    [
        ("lsten = 1", "~~~~^"), ('  "lsten" = 1', "   ~~~~^"),
        ("[lsten]", " ~~~~^"), ("  [ lsten ]", "    ~~~~^"), ("[[lsten]]", "  ~~~~^"),
        ("lsten.a = 1", "~~~~^"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_an_unknown_name_is_found(line: str, underline: str, newline: str) -> None:
    what, shown, under, remedy = mistake(newline.join(("# lsten", "", "timeout = 1", line, "")))
    assert what == "file.toml:4: unknown name 'lsten'"
    assert shown == "    " + line
    assert under == "    " + underline
    assert "listen," in remedy


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('ca_file = ["a.pem"]', "list"), ("listen = { a = 1 }", "dict"), ("upstream = [['a']]", "list"),
        ("timeout = 2001-01-01", "date"), ("[pin]", "dict"),
    ],
)  # fmt: skip
def test_a_wrong_type_is_found(line: str, kind: str) -> None:
    key = line.split()[0].strip("[]")
    what, shown, under, *_ = mistake("\n" + line)
    assert what == f"file.toml:2: {key} cannot be a {kind}"
    assert shown == "    " + line
    assert under == "    " + " " * line.index(key) + "~" * (len(key) - 1) + "^"


@pytest.mark.parametrize(
    ("line", "column"),
    [("listen = 127.0.0.1", 15), ("listen = [", None), ("listen 5", 8), ("= 1", 1), ("timeout = 1 x", 13)],
)
def test_a_syntax_error_is_found(line: str, column: int | None) -> None:
    what, shown, under, *_ = mistake(f"log_level = 'info'\r\n{line}")
    assert what.startswith("file.toml:2: ")
    assert " (at " not in what
    assert shown == "    " + line
    if column:
        assert under == "    " + " " * (column - 1) + "^"


def test_a_syntax_error_at_the_end_points_at_the_end() -> None:
    what, shown, under, *_ = mistake("timeout = 2\nlisten = [\n  '127.0.0.1',\n")
    assert what.startswith("file.toml:3: ")
    assert shown == "      '127.0.0.1',"
    assert under.endswith("^")


@pytest.mark.parametrize("separator", ["\x85", "\u2028"])
def test_only_newlines_count_as_lines(separator: str) -> None:
    """TOML allows other separators of Unicode in comments."""
    assert mistake(f"# one{separator}two\nlsten = 1")[0] == "file.toml:2: unknown name 'lsten'"
    assert mistake(f"# one{separator}two\ntimeout = x")[1] == "    timeout = x"


@pytest.mark.parametrize("value", ['"yes"', "1", '"True"', '""'])
def test_a_switch_that_is_neither_true_nor_false_is_refused(tmp_path: Path, value: str) -> None:
    """Else log_queries = "yes" would silently mean no."""
    path = tmp_path / "file.toml"
    path.write_text(f"log_queries = {value}\n")
    with pytest.raises(ConfigError, match="log_queries"):
        cli.read(cli.parser().parse_args([str(path)]), {})


@pytest.mark.parametrize(
    "source",
    ["timeout = " + "1" * 5000, "timeout = 0x" + "f" * 5000, "listen = " + "[" * 5000],
    ids=["decimal", "hexadecimal", "nested"],
)
def test_absurd_values_are_config_errors_too(source: str) -> None:
    assert mistake(source)


LINES = st.sampled_from(
    [*toml.KEYS, '"a"', "=", "[", "]", "]]", "{", "}", "'", '"""', ",", "\n", "\r\n", "\t", " ", "#", "1", "."]
)
SOURCES = st.text(max_size=40) | st.lists(LINES, max_size=12).map("".join)


@settings(max_examples=400)
@given(SOURCES)
def test_any_text_is_a_config_error_at_worst(source: str) -> None:
    with contextlib.suppress(ConfigError):
        for values in toml.parse(source, "file.toml").values():
            for text, where in values:
                assert isinstance(text, str)
                assert 1 <= int(where.removeprefix("file.toml:")) <= source.count("\n") + 1


@settings(max_examples=100)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="'")), max_size=5))
def test_any_strings_come_through(values: list[str]) -> None:
    source = "pin = [" + ", ".join(f"'{value}'" for value in values) + "]"
    assert [text for text, _ in toml.parse(source, "f").get("pin", [])] == values
