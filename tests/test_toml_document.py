"""toml_document: every key and value of a TOML file is found where it stands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls.config import ConfigError
from _udp2tls.toml_document import Document, Path, Place, suggest

SOURCE = """\
names = ["a", 'b',
  "c",  # not "d"
]
text = '''
[sources.fake]
urls = 1'''
long = \"\"\"quotes \\\"\"\" inside\"\"\"\"\"
when = 1979-05-27 07:32:00
[sources.one]
urls = []
[sources.'two and a half']
urls = [ "x" ]
"cache\\u005ffile" = "y"
inline = { a = { b = [1, { c = 2 }] } }
[[routes]]
via = 1
[[routes]]
  via = 2
[routes.deep]
a.b = 3
[other]
via = 4
"""


def shown(place: Place) -> tuple[int, str]:
    """Return the line's number, and what of it is meant."""
    return int(place.where.rpartition(":")[2]), place.text[slice(*place.span)]


@pytest.mark.parametrize(
    ("path", "line", "text"),
    [
        (("names",), 1, "names"), (("names", 0), 1, "a"), (("names", 1), 1, "b"), (("names", 2), 2, "c"),
        (("text",), 4, "text"), (("long",), 7, "long"), (("when",), 8, "when"),
        (("sources",), 9, "sources"), (("sources", "one"), 9, "one"), (("sources", "one", "urls"), 10, "urls"),
        (("sources", "two and a half"), 11, "two and a half"),
        (("sources", "two and a half", "urls"), 12, "urls"), (("sources", "two and a half", "urls", 0), 12, "x"),
        (("sources", "two and a half", "cache_file"), 13, "cache\\u005ffile"),
        (("sources", "two and a half", "inline", "a", "b", 1, "c"), 14, "c"),
        (("routes",), 15, "routes"), (("routes", 0, "via"), 16, "via"), (("routes", 1), 17, "routes"),
        (("routes", 1, "via"), 18, "via"), (("routes", 1, "deep"), 19, "deep"), (("routes", 1, "deep", "a"), 20, "a"),
        (("routes", 1, "deep", "a", "b"), 20, "b"), (("other", "via"), 22, "via"),
        (("sources", "one", "not there"), 9, "one"), (("nowhere",), 1, "n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_is_where(path: Path, line: int, text: str, newline: str) -> None:
    assert shown(Document(SOURCE.replace("\n", newline), "f").place(*path)) == (line, text)


@pytest.mark.parametrize(
    ("path", "line", "text"),
    [
        (("names", 2), 2, "c"), (("names",), 1, """["a", 'b',"""), (("when",), 8, "1979-05-27 07:32:00"),
        (("long",), 7, 'quotes \\""" inside""'), (("other", "via"), 22, "4"), (("other",), 21, "other"),
        (("sources", "two and a half", "inline", "a", "b", 0), 14, "1"),
    ],
)  # fmt: skip
def test_what_values_are_where(path: Path, line: int, text: str) -> None:
    assert shown(Document(SOURCE, "f").value_place(*path)) == (line, text)


def test_a_mistake_is_shown_at_its_place() -> None:
    error = Document(SOURCE, "file.toml").error("wrong", "other", "via", remedy="do this")
    assert str(error) == "file.toml:22: wrong\n    via = 4\n    ~~^\n  do this"


def test_names_that_are_alike_are_suggested() -> None:
    known = ["quad9-dnscrypt", "Cloudflare", "cisco"]
    assert suggest("quad9-dnscrpt", known, "more") == "did you mean quad9-dnscrypt?"
    assert suggest("CLOUDFLARE", known, "more") == "did you mean Cloudflare?"
    assert suggest("zzz", known, "more") == "more"


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
VALUES = st.recursive(
    st.integers() | st.booleans() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.datetimes().map(lambda one: one.replace(microsecond=0)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


def quoted(text: str, style: int) -> str:
    if style % 2 and not any(one in "'\x7f" or (one < " " and one != "\t") for one in text):
        return f"'{text}'"
    return '"' + "".join(one if one.isprintable() and one not in '"\\' else f"\\U{ord(one):08x}" for one in text) + '"'


def written(value: Any, style: int) -> str:
    gap = ("", " ", "\t", "\n  # ] a \"comment'\n ")[style % 4]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value, style)
    if isinstance(value, list):
        return "[" + gap + ",".join(gap + written(one, style) + gap for one in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{quoted(key, style)} = {written(one, style)}" for key, one in value.items()) + " }"
    return str(value)


def paths(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [pair for key, one in items for pair in [((*path, key), one), *paths(one, (*path, key))]]


@settings(max_examples=300)
@given(st.dictionaries(KEYS, VALUES, max_size=4), st.integers(0, 3), st.booleans())
def test_whatever_a_file_holds_is_found(data: dict[str, Any], style: int, tables: bool) -> None:
    tables = tables and all(isinstance(one, dict) for one in data.values())
    lines = [
        line for key, value in data.items() for line in (
            [f"[ {quoted(key, style)} ]", *(f"{quoted(k, style)}={written(v, style)}" for k, v in value.items())]
            if tables else [f"{quoted(key, style)} = {written(value, style)}"]
        )
    ]  # fmt: skip
    document = Document("\n".join(lines), "f")
    assert document.data == data
    for path, value in paths(data):
        key = path[-1]
        if isinstance(key, str):
            assert shown(document.place(*path))[1] in (quoted(key, style)[1:-1], lines[0][0:1])
        if isinstance(value, str) and value:
            assert shown(document.value_place(*path))[1] == quoted(value, style)[1:-1]


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*"abc", '"', "'", '"""', "'''", "=", "[", "]", "{", "}", ",", "\n", "#", ".", "\\"]),
                max_size=20).map("".join))  # fmt: skip
def test_no_text_is_too_odd(source: str) -> None:
    try:
        document = Document(source, "f")
    except ConfigError:
        return
    for path, _ in paths(document.data):
        assert document.place(*path).where.startswith("f:")
        assert document.value_place(*path).where.startswith("f:")
